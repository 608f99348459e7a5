"""How a stage tells its user what went wrong."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

from stages.config.interrupts import STATUS, terminable

Arguments = ParamSpec("Arguments")
GO_ON = "interrupted: the same command goes on from what is finished"
# What a RuntimeError says where memory ran out: PyTorch's own and CUDA's; that of cuBLAS and
# others, which need room of their own; and on the CPU.
FULL = ("out of memory", "_ALLOC_FAILED", "not enough memory", "can't allocate memory")


class UserError(Exception):
    """Something the user can mend: says what was expected, what was found, where, what to do."""


def stage(main: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Run a stage's `main` so that a UserError ends it with its message and exit status 1.

    So does memory that ran out; and Ctrl-C or SIGTERM ends it in a line, with the status that
    shells expect.
    """

    @functools.wraps(main)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            with terminable():
                main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        except KeyboardInterrupt as how:
            print(GO_ON, file=sys.stderr)
            raise SystemExit(STATUS[type(how)]) from None
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            print(f"error: {no_room(error)}", file=sys.stderr)
            raise SystemExit(1) from None

    return run


def out_of_memory(error: Exception) -> bool:
    """Whether it says that there is no memory left; PyTorch has several kinds of error for that."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in FULL)


def no_room(error: Exception) -> str:
    """What to tell the user of memory that ran out."""
    reason = " ".join(str(error).split())
    return (
        f"expected room in memory, found none ({reason[:300]}): end what else uses the device, "
        "lower the scale's max_tokens and token_budget, or take a smaller backbone or a GPU with "
        "more memory; the same command goes on from what is finished"
    )
