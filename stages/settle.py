"""python -m stages.settle: train only until it is decided which backbone is better.

The runs grow step by step: three folds of each backbone, four, … up to those of split.folds, then
the further seeds. After each step they are compared, at a level that keeps false claims below 5 %
over all looks together. What was trained is not trained again, and a backbone that another one
beats is left out of the next steps. A killed command goes on when it is given again. The runs are
experiments of DVC, such as settle-llama-seed-1-folds-3. metrics/settled.json has every look.
"""

import argparse

from stages.config.arguments import add_set_param, names, numbers
from stages.config.errors import stage
from stages.settling.plan import read_plan
from stages.settling.settle import settle


@stage
def main() -> None:
    """Plan the looks, then take them in turn."""
    options = _options()
    settle(read_plan(options.models, options.seeds, options.set_param))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.settle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--models", type=names, required=True, metavar="A,B", help="the backbones to compare"
    )
    parser.add_argument(
        "--seeds", type=numbers, default=[], metavar="1,2,3", help="default: train.seed alone"
    )
    add_set_param(parser, ", for all runs; split.folds are the folds of the whole plan")
    return parser.parse_args()


if __name__ == "__main__":
    main()
