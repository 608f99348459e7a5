"""Stage `train`: python -m stages.train FOLD; with GPUS=2 in the environment, on that many GPUs."""

import argparse
import os

from stages.config.errors import stage
from stages.config.root import state
from stages.devices import gpus


@stage
def main() -> None:
    """Take the GPUs, then import what looks for them."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    parser.add_argument("fold", type=int)
    fold = parser.parse_args().fold
    if "LOCAL_RANK" in os.environ:  # by torchrun, which was told which GPUs to use
        _join(fold)
        return
    count = gpus.wanted()
    with gpus.taken(count, state() / "gpus"):
        if count == 1:
            _train(fold)
        else:
            _launch(fold, count)


def _train(fold: int) -> None:
    from stages.training.run import run

    run(fold)


def _launch(fold: int, count: int) -> None:
    """As `torchrun --standalone --nproc-per-node COUNT -m stages.train FOLD`."""
    from stages.devices.launch import launch

    launch(["-m", "stages.train", str(fold)], count)


def _join(fold: int) -> None:
    from stages.devices.launch import joined

    with joined():
        _train(fold)


if __name__ == "__main__":
    main()
