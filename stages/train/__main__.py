"""Stage `train`: python -m stages.train FOLD."""

import argparse
import json
import shutil
import warnings
from pathlib import Path

import pandas as pd
import transformers
from filelock import FileLock

from stages import backbones
from stages.errors import stage
from stages.params import load
from stages.root import state
from stages.train.fingerprint import fingerprint, versions
from stages.train.fold import Trained, train_fold

BATTLES = Path("data/prepared/battles.parquet")
FOLDS = Path("data/folds/folds.parquet")
WEIGHTS = Path("models/weights.json")


@stage
def main() -> None:
    """Train a fold's adapter and write it, its held-out predictions, its summary and curves."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    parser.add_argument("fold", type=int)
    fold = parser.parse_args().fold
    transformers.logging.set_verbosity_error()  # gates and errors are ours to tell
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # PEFT's calls
    params = load()
    record = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    weights = backbones.fetch(record, params.checkpoint, state())
    battles = pd.read_parquet(BATTLES).merge(pd.read_parquet(FOLDS), on="id", validate="1:1")
    key = fingerprint(record, fold, params, [BATTLES, FOLDS])
    folder = state() / "checkpoints" / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        trained = train_fold(
            weights, battles[battles.fold != fold], battles[battles.fold == fold], params, folder
        )
        facts = {"fold": fold, "fingerprint": key, "checkpoint": record}
        facts["objective"] = params.train.objective
        _write(fold, trained, {**facts, **trained.summary, "versions": versions()})
        shutil.rmtree(folder)


def _write(fold: int, trained: Trained, summary: dict) -> None:
    adapter = Path(f"models/fold-{fold}")
    predictions = Path(f"data/predictions/fold-{fold}.parquet")
    metrics = Path(f"metrics/folds/fold-{fold}.json")
    for path in (adapter, predictions, metrics):
        path.parent.mkdir(parents=True, exist_ok=True)
    trained.model.save_pretrained(adapter)
    trained.tokenizer.save_pretrained(adapter)
    trained.predictions.to_parquet(predictions, index=False)
    trained.curves.to_csv(metrics.with_suffix(".csv"), index=False)
    metrics.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
