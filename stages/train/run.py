"""The training of one fold, from the files that its stage reads to those that it writes."""

import json
import os
import shutil
import warnings
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import transformers
from filelock import FileLock

from stages import backbones
from stages.errors import UserError
from stages.outs import OFFSET
from stages.params import Params, load
from stages.root import state
from stages.train import processes
from stages.train.checkpoints import writing
from stages.train.fingerprint import fingerprint, versions
from stages.train.fold import Trained, train_fold

BATTLES = Path("data/prepared/battles.parquet")
FOLDS = Path("data/folds/folds.parquet")
WEIGHTS = Path("models/weights.json")


def run(fold: int) -> None:
    """Train a fold's adapter and write it, its held-out predictions, its summary and curves.

    Of several processes all train, and the first holds the lock and writes.
    """
    transformers.logging.set_verbosity_error()  # gates and errors are ours to tell
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # PEFT's calls
    params = load()
    record, weights, battles = read_inputs(params)
    key = fingerprint(record, fold, params, [BATTLES, FOLDS])
    folder = state() / "checkpoints" / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    first = os.environ.get("RANK", "0") == "0"
    with FileLock(folder.with_suffix(".lock")) if first else nullcontext():
        processes.connect()
        trained = train_fold(
            weights, battles[battles.fold != fold], battles[battles.fold == fold], params, folder
        )
        processes.disconnect()
        if first:
            facts = {"fold": fold, "fingerprint": key, "checkpoint": record}
            facts["objective"] = params.train.objective
            with writing(f"what fold {fold} has learned", Path.cwd()):
                _write(fold, trained, {**facts, **trained.summary, "versions": versions()})
            shutil.rmtree(folder)


def read_inputs(params: Params) -> tuple[dict, Path, pd.DataFrame]:
    """The checkpoint's record and its folder, and the battles with their groups and folds.

    Raises:
        UserError: a stage that makes them has not run.
    """
    if missing := [str(path) for path in (BATTLES, FOLDS, WEIGHTS) if not path.exists()]:
        raise UserError(
            f"{', '.join(missing)} not found: run `dvc repro prepare split weights` first"
        )
    record = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    weights = backbones.fetch(record, params.checkpoint, state())
    battles = pd.read_parquet(BATTLES).merge(pd.read_parquet(FOLDS), on="id", validate="1:1")
    return record, weights, battles


def _write(fold: int, trained: Trained, summary: dict) -> None:
    adapter = Path(f"models/fold-{fold}")
    predictions = Path(f"data/predictions/fold-{fold}.parquet")
    metrics = Path(f"metrics/folds/fold-{fold}.json")
    for path in (adapter, predictions, metrics):
        path.parent.mkdir(parents=True, exist_ok=True)
    trained.model.save_pretrained(adapter)
    trained.tokenizer.save_pretrained(adapter)
    if trained.offset:
        trained.offset.save(adapter / OFFSET)
    else:
        (adapter / OFFSET).unlink(missing_ok=True)  # of a run that DVC did not start
    trained.predictions.to_parquet(predictions, index=False)
    trained.curves.to_csv(metrics.with_suffix(".csv"), index=False)
    metrics.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
