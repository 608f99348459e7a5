"""JSON as stages write it."""

import json
from pathlib import Path


def write_json(path: Path, content: object) -> None:
    """Write a document, indented; its folder is made if it is not there.

    Raises:
        ValueError: a number in it is NaN or infinite, which JSON does not know.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
