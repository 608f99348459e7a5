"""Silences what transformers says of tiny configurations and of loading them."""

import logging
import warnings

import transformers


def quiet() -> None:
    """Let no library write to the terminal."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
