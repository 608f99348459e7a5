"""Files that a command writes where its user says."""

import os
from pathlib import Path

from stages.config.errors import UserError


def require_writable(output: Path) -> None:
    """Raise a UserError, before the work is done, unless a file can be written there."""
    there = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        raise UserError(
            f"--output: expected a place that can be written, found {output}, and {there} cannot be"
        )


def require_json(output: Path) -> None:
    """Raise a UserError unless it names a JSON file, beside which a page gets the ending .html."""
    if output.suffix != ".json":
        raise UserError(f"--output: expected a name that ends in .json, found {output}")
    require_writable(output)
