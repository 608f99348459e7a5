"""Command-line options that several commands take, and their values."""

import argparse


def names(given: str) -> list[str]:
    """Names with commas between them, no two of them the same."""
    found = [name.strip() for name in given.split(",")]
    if len(set(found)) < len(found) or "" in found:
        raise argparse.ArgumentTypeError(
            f"expected different names such as llama,gemma, found {given!r}"
        )
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
