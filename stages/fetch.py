"""Bring a public set of votes into data/raw, from the hub or from Kaggle, and record what came.

python -m stages.fetch [NAME] [--source hub|kaggle] [--output data/raw]
"""

import argparse
from pathlib import Path

from stages.config.errors import stage
from stages.votes.public import ARENA, SETS, SOURCES, fetch

NAMES = f"{', '.join(SETS)}; {ARENA} if left out"


@stage
def main() -> None:
    """Fetch the votes; print what came and what to do next."""
    parser = argparse.ArgumentParser(prog="python -m stages.fetch", description="Fetch the votes.")
    parser.add_argument("name", nargs="?", choices=SETS, default=ARENA, metavar="NAME", help=NAMES)
    parser.add_argument("--source", choices=SOURCES, default="hub")
    parser.add_argument("--output", type=Path, default=Path("data/raw"), metavar="FOLDER")
    arguments = parser.parse_args()
    path, record = fetch(arguments.source, arguments.output, arguments.name)
    print(f"{path}: {record['rows']} rows, {record['bytes']} bytes of {record['id']}")
    for name, sha256 in record["files"].items():
        print(f"  {name}: SHA-256 {sha256}")
    print(f"next:\n  dvc add {path}\n  dvc exp run -S data.raw={path}")


if __name__ == "__main__":
    main()
