"""Command-line options that several commands take, and their values."""

import argparse
from collections.abc import Callable


def names(given: str) -> list[str]:
    """Names with commas between them, no two of them the same."""
    return _different(given, "names such as llama,gemma", bool)


def numbers(given: str) -> list[int]:
    """Whole numbers with commas between them, no two of them the same."""
    return [int(each) for each in _different(given, "numbers such as 1,2,3", str.isdecimal)]


def _different(given: str, wanted: str, valid: Callable[[str], bool]) -> list[str]:
    found = [each.strip() for each in given.split(",")]
    if len(set(found)) < len(found) or not all(map(valid, found)):
        raise argparse.ArgumentTypeError(f"expected different {wanted}, found {given!r}")
    return found


def above_zero(given: str) -> float:
    """A number such as a price."""
    try:
        value = float(given)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {given}")
    return value


def count(given: str) -> int:
    """How many there are, from 1 on."""
    if not given.isdecimal() or not int(given):
        raise argparse.ArgumentTypeError(f"expected a number such as 3, found {given}")
    return int(given)


def add_set_param(parser: argparse.ArgumentParser, told: str = "") -> None:
    """The option -S KEY=VALUE, as often as it is given.

    Args:
        told: what the help says of it beside that it is DVC's.
    """
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"as `dvc exp run` takes it{told}",
    )
