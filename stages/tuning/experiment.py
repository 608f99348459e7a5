"""The winner of a study, as an experiment of DVC."""

import sys
from collections.abc import Sequence

from stages.config.errors import UserError
from stages.config.interrupts import run


def command(model: str, overrides: Sequence[str], queue: bool) -> list[str]:
    """`dvc exp run` of the winner.

    Args:
        overrides: of the study and of the winner; those of the section `tune` are left out.
        queue: put it into the queue instead of running it now.
    """
    given = [each for each in overrides if not each.lstrip("+~").startswith("tune.")]
    pairs = [part for each in given for part in ("-S", each)]
    return ["dvc", "exp", "run", *["--queue"] * queue, "-n", f"tuned-{model}", *pairs]


def start(words: Sequence[str], what: str, then: str) -> None:
    """Run the command.

    Args:
        what: it runs, for the error.
        then: what will happen when the user's own command is given again, likewise.

    Raises:
        UserError: DVC refuses, or a stage fails; its own words stand above.
    """
    if run([sys.executable, "-m", *words]):
        raise UserError(f"dvc exp run of {what} has failed, for the reason above. {then}")
