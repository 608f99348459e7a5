"""Made-up runs on the starter set, as docs/results has them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from stages.votes.labels import LABELS
from tests.support.places import REPO
from tests.support.runs import write_run
from tests.support.settings import raw_params

STARTER = REPO / "data/raw/starter.csv"
LOGITS = [f"{order}_{label}" for order in ("ab", "ba") for label in LABELS]
FOLDS = 3


def ship(
    folder: Path, votes: pd.DataFrame, checkpoint: str, seed: int, skill: float = 0.3, part: int = 1
) -> None:
    """Write a run's files as docs/results has them."""
    train = raw_params()["train"]
    run = write_run(folder / "run", checkpoint, folds=FOLDS, train=train | {"seed": seed})
    shutil.copy(run / "params.yaml", folder)
    summaries, curves = [], []
    for fold in range(FOLDS):
        path = run / f"metrics/folds/fold-{fold}.json"
        summary = json.loads(path.read_text(encoding="utf-8"))
        summaries.append(summary | {"examples": 200 // part + fold})
        curves.append(pd.read_csv(path.with_suffix(".csv")).assign(fold=fold))
    (folder / "folds.json").write_text(json.dumps(summaries), encoding="utf-8")
    pd.concat(curves).to_csv(folder / "curves.csv", index=False)
    predictions(votes, skill, seed).to_parquet(folder / "predictions.parquet", index=False)
    shutil.rmtree(run)


def predictions(votes: pd.DataFrame, skill: float, seed: int) -> pd.DataFrame:
    """Logits that see the label through noise."""
    rng = np.random.default_rng(seed)
    logits = skill * np.tile(np.eye(3)[votes.label], 2) + 0.3 * rng.normal(size=(len(votes), 6))
    table = pd.DataFrame({"id": votes.id, "fold": np.arange(len(votes)) % FOLDS})
    return table.assign(tokens=50, tokens_dropped=0, **dict(zip(LOGITS, logits.T, strict=True)))
