"""python -m stages.plan: what runs would take, and what their comparison could find.

Prints and writes the tokens of the votes; for each backbone its memory, hours and money on a device;
the chance that `compare` finds a difference; and what would stop a run. Nothing is trained and
nothing is downloaded. Without --device it is that of this machine. The exit status is 1 if
something would stop a run.
"""

import argparse
from pathlib import Path

from stages.config.errors import UserError, stage
from stages.config.json_files import write_json
from stages.config.outputs import require_writable
from stages.config.paths import PLAN
from stages.planning.devices import GPUS, device_for
from stages.planning.plan import Wish, draw_up
from stages.planning.words import text
from stages.tuning.overrides import overridden


@stage
def main() -> None:
    """Plan, print and write."""
    options = _options()
    require_writable(options.output)
    tasks = [
        overridden([*options.set_param, *([f"model={model}"] if model else [])])[1]
        for model in options.models or [None]
    ]
    wish = Wish(device_for(options.device), options.seeds, options.price, options.find)
    document = draw_up(tasks, wish)
    print(text(document))
    write_json(options.output, document)
    print(f"\n{options.output} written")
    if document["stops"]:
        raise UserError("it would not run: see what would stop it, above")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.plan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    told = "as `dvc exp run` takes it"
    add("-S", "--set-param", action="append", default=[], metavar="KEY=VALUE", help=told)
    told = "several backbones; default: the model of params.yaml"
    add("--models", type=_names, metavar="A,B", help=told)
    add("--device", metavar="NAME", help=f"one of {', '.join(GPUS)}")
    add("--price", type=_positive, metavar="AMOUNT", help="of an hour of the device")
    add("--seeds", type=int, default=1, metavar="COUNT", help="trainings of each fold; default: 1")
    told = "say which votes, folds and seeds find this difference of log loss at the least cost"
    add("--find", type=_positive, metavar="DIFFERENCE", help=told)
    add("--output", type=Path, default=PLAN, help=f"default: {PLAN}")
    return parser.parse_args()


def _names(given: str) -> list[str]:
    names = [name.strip() for name in given.split(",")]
    if len(set(names)) < len(names) or "" in names:
        raise argparse.ArgumentTypeError(f"expected names such as llama,gemma, found {given!r}")
    return names


def _positive(given: str) -> float:
    if not given.replace(".", "", 1).isdigit() or not float(given):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {given!r}")
    return float(given)


if __name__ == "__main__":
    main()
