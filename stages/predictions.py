"""Stage `predictions`: python -m stages.predictions KEY: read a file of teacher.predictions.

DVC calls them file0, file1, … in their order.
"""

import argparse
from pathlib import Path

from stages.config.data import by_key
from stages.config.errors import stage
from stages.config.params import load
from stages.config.paths import lesson
from stages.distillation.soft_labels import PREDICTIONS, read_predictions


@stage
def main() -> None:
    """Check its probabilities and write them."""
    parser = argparse.ArgumentParser(prog="python -m stages.predictions", description=__doc__)
    parser.add_argument("key", help="file0, file1, …")
    key, params = parser.parse_args().key, load()
    file = by_key(params.teacher.predictions, key)
    table = read_predictions(Path(file.raw))
    place = lesson("predictions", key)
    place.mkdir(parents=True, exist_ok=True)
    table.to_parquet(place / PREDICTIONS, index=False)
    folds = ", ".join(map(str, sorted(table.fold.dropna().unique()))) or "every fold"
    print(f"{file.raw}: predictions of {table.id.nunique():,} ids for {folds}")


if __name__ == "__main__":
    main()
