"""Values of command-line options that several commands take."""

import argparse


def names(given: str) -> list[str]:
    """Names with commas between them, no two of them the same."""
    found = [name.strip() for name in given.split(",")]
    if len(set(found)) < len(found) or "" in found:
        raise argparse.ArgumentTypeError(
            f"expected different names such as llama,gemma, found {given!r}"
        )
    return found
