"""python -m stages.tune: try settings of a backbone on votes that no fold evaluates.

`-S split.tuning=0.15` reserves such votes: give it here and to all runs to compare with the winner.
The section `tune` of params.yaml has the ranges. Losing trials are stopped early. A killed study
goes on when the same command is given again. metrics/tuning/ has the history. The winner goes into
DVC's queue as the experiment tuned-MODEL.
"""

import argparse

from stages.config.arguments import add_set_param, names
from stages.config.errors import stage
from stages.config.root import state
from stages.devices import gpus
from stages.tuning.task import read_tasks


@stage
def main() -> None:
    """Tune one backbone after another, each under the same budget."""
    options = _options()
    overrides = options.set_param
    if options.trials is not None:
        overrides = [*overrides, f"tune.trials={options.trials}"]
    tasks = read_tasks(options.models, overrides)  # all, before the first takes its time
    with gpus.taken(1, state() / "gpus"):
        from stages.tuning.tune import tune  # looks for the GPU

        for task in tasks:
            tune(task, queue=not options.run)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_set_param(parser, "; the winner's experiment gets the same")
    parser.add_argument("--trials", type=int, help="of each backbone; default: tune.trials")
    parser.add_argument(
        "--models", type=names, default=[], metavar="A,B", help="several backbones in turn"
    )
    parser.add_argument(
        "--run", action="store_true", help="run the winner now instead of putting it into the queue"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
