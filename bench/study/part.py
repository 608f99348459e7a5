"""Train every fold on a part of its training votes, and ship it as docs/results has runs.

    python -m bench.study.part 2 docs/results/gemma-sft-half

trains on half; `4` trains on a quarter, and `1` on all of them. Run `dvc repro prepare split
weights` in the workspace first; the settings are those of its params.yaml. Its seed decides which
prompt groups are left out, whole. All held-out votes are predicted. Each training starts from the
beginning.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from bench.study.restore import PREDICTIONS
from stages.config.errors import UserError, stage
from stages.config.params import Params, load
from stages.config.paths import PARAMS
from stages.config.versions import versions
from stages.training.fold import train_fold
from stages.training.run import read_inputs


@stage
def main() -> None:
    """Train, and write the run's folder."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.study.part",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("divisor", type=int, help="train on one of so many parts")
    parser.add_argument("folder", type=Path, help="where the run goes")
    options = parser.parse_args()
    if options.divisor < 1:
        raise UserError(f"expected to train on one of 1, 2, 3, … parts, found {options.divisor}")
    ship(train(load(), options.divisor), options.folder)


def train(params: Params, divisor: int) -> dict[str, list]:
    """Predictions, curves and summary of each fold."""
    record, weights, battles = read_inputs(params)
    run: dict[str, list] = {"predictions": [], "curves": [], "summaries": []}
    for fold in params.split.folds:
        training = part(battles[battles.fold != fold], divisor, params.seed)
        held_out = battles[battles.fold == fold]
        with tempfile.TemporaryDirectory() as checkpoints:
            trained = train_fold(weights, training, held_out, params, Path(checkpoints))
        run["predictions"].append(trained.predictions.assign(fold=fold))
        run["curves"].append(trained.curves.assign(fold=fold))
        facts = {"fold": fold, "checkpoint": record, "objective": params.train.objective}
        run["summaries"].append({**facts, **trained.summary, "versions": versions()})
    return run


def ship(run: dict[str, list], folder: Path) -> None:
    """Write a run's folder as docs/results has them."""
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(run["predictions"]).to_parquet(folder / PREDICTIONS, index=False)
    pd.concat(run["curves"]).to_csv(folder / "curves.csv", index=False)
    text = json.dumps(run["summaries"], indent=1)
    (folder / "folds.json").write_text(text + "\n", encoding="utf-8")
    shutil.copy(PARAMS, folder)


def part(training: pd.DataFrame, divisor: int, seed: int) -> pd.DataFrame:
    """The votes of a random part of the prompt groups."""
    groups = np.sort(training.group.unique().astype(str))
    kept = np.random.default_rng(seed).permutation(groups)[: round(len(groups) / divisor)]
    return training[training.group.isin(kept)]


if __name__ == "__main__":
    main()
