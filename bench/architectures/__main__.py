"""List which architectures a tiny checkpoint can be made of."""

import argparse
import logging
import tempfile
import time
import warnings
from pathlib import Path

import torch
import transformers

from bench.architectures import tiny
from bench.architectures.check import check

KINDS = {
    "causal": tiny.causal_types,
    "multimodal": tiny.multimodal_types,
    "encoder": tiny.encoder_types,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.architectures", description=__doc__)
    parser.add_argument("--list", action="store_true", help="a line per model type")
    parser.add_argument("types", nargs="*", help="only these model types")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    outcomes = []
    for kind, types in KINDS.items():
        for model_type in types():
            if not arguments.types or model_type in arguments.types:
                start = time.perf_counter()
                with tempfile.TemporaryDirectory() as folder:
                    outcome = check(model_type, Path(folder))
                outcomes.append(outcome)
                seconds = time.perf_counter() - start
                print(f"{kind:10} {model_type:28} {seconds:5.1f} s  {outcome}", flush=True)
    print(f"{outcomes.count('ok')} of {len(outcomes)} are ok.")


def quiet() -> None:
    """Silence what transformers says of configurations and reports of loading."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


if __name__ == "__main__":
    main()
