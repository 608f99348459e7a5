"""One adapter for deployment in place of one a fold, out of the workspace's finished run.

It goes to models/refit: python -m stages.predict --model models/refit, python -m stages.export.

`train`, the default, trains it on all votes by the run's settings. The out-of-fold log loss
estimates what these settings give, so it holds for this adapter, too, or errs on the safe side: the
folds were trained on fewer votes. It takes about as long as one fold.

`average` takes the mean of the folds' adapters and trains nothing. No log loss can be told for it:
every vote was trained on by all folds but one, so that no vote is new to their mean. That is why it
is not the default. How far its predictions are from the folds' mean can be told, and is.

Either carries the metrics and the calibration of the run, which are the folds' and not its own.
"""

import argparse

from stages.config.errors import stage
from stages.config.paths import REFIT
from stages.config.root import state
from stages.devices import gpus


@stage
def main() -> None:
    """Write models/refit, and say what it is."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.refit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--how", choices=["train", "average"], default="train", help="see above")
    how = parser.parse_args().how
    with gpus.taken(1, state() / "gpus"):
        from stages.deployment.refitting import refit  # looks for the GPU

        facts = refit(how)
    print(_told(facts))
    print(facts["metrics"])
    print(f"{REFIT} written: python -m stages.predict --model {REFIT} …")


def _told(facts: dict) -> str:
    """What the adapter is, in a sentence or two."""
    if facts["how"] == "train":
        return (
            f"One adapter trained on all {facts['examples']} votes in {facts['steps']} steps, "
            f"{facts['train_seconds']:.0f} s."
        )
    return (
        f"The mean of {len(facts['folds'])} folds' adapters. Cut to rank {facts['rank']} it keeps "
        f"{facts['kept_by_the_cut']:.1%} of its squared norm. On {facts['compared']} of the run's "
        f"votes its probabilities are {facts['mean_distance']:.4f} from the folds' mean, at most "
        f"{facts['largest_distance']:.4f}."
    )


if __name__ == "__main__":
    main()
