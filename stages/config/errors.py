"""How a stage tells its user what went wrong."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

Arguments = ParamSpec("Arguments")


class UserError(Exception):
    """Something the user can mend: says what was expected, what was found, where, what to do."""


def stage(main: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Run a stage's `main` so that a UserError ends it with its message and exit status 1."""

    @functools.wraps(main)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None

    return run
