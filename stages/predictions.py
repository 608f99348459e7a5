"""Stage `predictions`: python -m stages.predictions KEY: read a file of teacher.predictions.

DVC calls them file0, file1, … in their order.
"""

import argparse
from pathlib import Path

from stages.config.errors import UserError, stage
from stages.config.params import load
from stages.config.paths import lesson
from stages.distillation.soft_labels import PREDICTIONS, read_predictions


@stage
def main() -> None:
    """Check its probabilities and write them."""
    parser = argparse.ArgumentParser(prog="python -m stages.predictions", description=__doc__)
    parser.add_argument("key", help="file0, file1, …")
    key, params = parser.parse_args().key, load()
    files = {f"file{place}": file for place, file in enumerate(params.teacher.predictions)}
    if key not in files:
        raise UserError(f"expected one of {', '.join(files) or 'no file'}, found {key}")
    table = read_predictions(Path(files[key].raw))
    place = lesson("predictions", key)
    place.mkdir(parents=True, exist_ok=True)
    table.to_parquet(place / PREDICTIONS, index=False)
    folds = ", ".join(map(str, sorted(table.fold.dropna().unique()))) or "every fold"
    print(f"{files[key].raw}: predictions of {table.id.nunique():,} ids for {folds}")


if __name__ == "__main__":
    main()
