"""The chosen checkpoint, resolved, checked and fetched."""

from functools import partial
from pathlib import Path

from stages.backbones import sources
from stages.backbones.layout import describe
from stages.config.params import Params
from stages.config.root import state
from stages.preflight.checks import check


def fetch_checked(params: Params) -> tuple[dict, Path]:
    """The checkpoint's record, as models/weights.json has it, and the folder of its weights.

    Raises:
        UserError: it cannot serve, which is seen before its weights come, or cannot be fetched.
    """
    record = sources.resolve(params.checkpoint, params.model, params.budget.size, state())
    serves = partial(check, name=record["checkpoint"], params=params)
    folder = sources.fetch(record, params.checkpoint, state(), serves)
    serves(folder)  # what was here already, came from packages or is the user's own
    return sources.with_digest(record, folder) | describe(folder), folder
