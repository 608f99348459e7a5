"""The generated parts of a document: between <!-- NAME --> and <!-- /NAME -->, each on its line."""

import difflib
import re

from stages.config.errors import UserError

BLOCK = re.compile(r"^<!-- (?P<name>[\w-]+) -->\n(?P<body>.*?)^<!-- /(?P=name) -->$", re.M | re.S)


def fill(document: str, blocks: dict[str, str]) -> str:
    """The document with its blocks' bodies replaced.

    Args:
        blocks: body by name, as many as the document has.

    Raises:
        UserError: the document's blocks have other names.
    """
    found = [match["name"] for match in BLOCK.finditer(document)]
    if sorted(found) != sorted(blocks):
        raise UserError(
            f"expected the document's generated parts {', '.join(blocks)}, found {', '.join(found)}"
        )

    def filled(match: re.Match) -> str:
        name = match["name"]
        return f"<!-- {name} -->\n{blocks[name]}\n<!-- /{name} -->"

    return BLOCK.sub(filled, document)


def difference(written: str, rebuilt: str) -> str:
    """What differs, line by line; empty if nothing does."""
    lines = difflib.unified_diff(
        written.splitlines(), rebuilt.splitlines(), "as written", "as rebuilt", n=0, lineterm=""
    )
    return "\n".join(lines)
