"""python -m stages.plan: what runs would take, and what their comparison could find.

Prints and writes the tokens of the votes; the memory, hours and money of each backbone on a device;
the chance that `compare` finds a difference; and what would stop a run. Nothing is trained, and
nothing is downloaded. The exit status is 1 if something would stop a run.
"""

import argparse
import math
import warnings
from contextlib import nullcontext
from pathlib import Path

from stages.config.arguments import above_zero, add_set_param, count, names
from stages.config.errors import UserError, stage
from stages.config.json_files import write_json
from stages.config.outputs import require_json
from stages.config.paths import PLAN
from stages.config.root import state
from stages.devices import gpus

LARGEST = math.log(3)


@stage
def main() -> None:
    """Plan, print and write."""
    options = _options()
    require_json(options.output)
    if options.find and options.find >= LARGEST:
        raise UserError(
            f"--find: expected a difference of log loss such as 0.01, far below {LARGEST:.2f}, the "
            f"log loss of a model that has learned nothing; found {options.find:g}"
        )
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # PEFT's calls
    with nullcontext() if options.device else gpus.taken(1, state() / "gpus"):
        from stages.pages.planning import write_plan  # these look for the GPU
        from stages.planning.plan import Wish, draw_up, read_params
        from stages.planning.words import text

        steps = not options.no_steps
        wish = Wish(options.device, options.seeds, options.price, options.find, steps, options.gpus)
        plan = draw_up(read_params(options.models, options.set_param), wish)
    page = options.output.with_suffix(".html")
    write_json(options.output, plan)
    write_plan(plan, page)
    print(f"{text(plan)}\n\n{options.output} and {page} written")
    if plan["stops"]:
        raise UserError(f"it would not run, for {len(plan['stops'])} of the reasons above")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.plan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add_set_param(parser)
    told = "several backbones; default: the model of params.yaml"
    add("--models", type=names, default=[], metavar="A,B", help=told)
    told = "such as h100, a100, rtx4090, l4, a10g or t4; default: the GPU or CPU that is here"
    add("--device", metavar="NAME", help=told)
    add("--price", type=above_zero, metavar="AMOUNT", help="of an hour of the device")
    told = "that each backbone is trained with; default: 1"
    add("--seeds", type=count, default=1, metavar="COUNT", help=told)
    told = "how many such devices there are; says how they end all trainings soonest; default: 1"
    add("--gpus", type=count, default=1, metavar="COUNT", help=told)
    told = "say which votes, folds and seeds find this difference of log loss at the least cost"
    add("--find", type=above_zero, metavar="DIFFERENCE", help=told)
    told = "calculate the speed, even where the device is here and a few steps could show it"
    add("--no-steps", action="store_true", help=told)
    add("--output", type=Path, default=PLAN, help=f"default: {PLAN}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
