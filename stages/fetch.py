"""Bring the public arena votes into data/raw, from the hub or from Kaggle, and record what came.

python -m stages.fetch [--source hub|kaggle] [--output data/raw]
"""

import argparse
from pathlib import Path

from stages.config.errors import stage
from stages.votes.public import SOURCES, fetch


@stage
def main() -> None:
    """Fetch the votes; print what came and what to do next."""
    parser = argparse.ArgumentParser(prog="python -m stages.fetch", description="Fetch the votes.")
    parser.add_argument("--source", choices=SOURCES, default="hub")
    parser.add_argument("--output", type=Path, default=Path("data/raw"), metavar="FOLDER")
    arguments = parser.parse_args()
    path, record = fetch(arguments.source, arguments.output)
    print(f"{path}: {record['rows']} votes, {record['bytes']} bytes, SHA-256 {record['sha256']}")
    print(f"next:\n  dvc add {path}\n  dvc exp run -S data.raw={path}")


if __name__ == "__main__":
    main()
