"""The training of one fold, from the files that its stage reads to those that it writes."""

import json
import os
import shutil
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pandas as pd
import transformers

from stages.backbones import sources
from stages.config import paths
from stages.config.errors import UserError
from stages.config.params import Params, load
from stages.config.paths import BATTLES, FOLDS, WEIGHTS
from stages.config.root import state
from stages.config.versions import versions
from stages.devices import processes
from stages.training import beside
from stages.training.adapter import save
from stages.training.checkpoints import writing
from stages.training.fingerprint import fingerprint
from stages.training.fold import Trained, train_fold
from stages.training.soft_targets import taught
from stages.training.telling import facts_of, told
from stages.votes.labels import with_classes


def run(fold: int) -> None:
    """Train a fold's adapter and write it, its held-out predictions, its summary and curves.

    Of several processes all train, and the first holds the lock and writes.
    """
    transformers.logging.set_verbosity_error()  # gates and errors are ours to tell
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # PEFT's calls
    params = load()
    record, weights, battles = read_inputs(params)
    training, held_out = beside.parts(battles, fold)
    data = [BATTLES, FOLDS]
    if params.teacher.teaches:
        training = taught(training, held_out, read_lessons(fold), params.teacher)
        data.append(paths.teacher(fold))
    key = fingerprint(record, fold, params, data)
    folder = state() / "checkpoints" / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    first = os.environ.get("RANK", "0") == "0"
    facts = {"fold": fold, "fingerprint": key, "checkpoint": record}
    more = facts_of(params, training, held_out)
    alone: AbstractContextManager = told(folder, facts | more) if first else nullcontext([])
    with alone as callbacks:
        processes.connect()
        trained = train_fold(weights, training, held_out, params, folder, callbacks)
        processes.disconnect()
        if first:
            facts["objective"] = params.train.objective
            with writing(f"what fold {fold} has learned", Path.cwd()):
                base = sources.name_of_base(record, params.checkpoint)
                _write(fold, trained, base, {**facts, **trained.summary, "versions": versions()})
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
    weights = sources.fetch(record, params.checkpoint, state())
    battles = pd.read_parquet(BATTLES).merge(pd.read_parquet(FOLDS), on="id", validate="1:1")
    return record, weights, with_classes(battles, battles.fold >= 0)


def read_lessons(fold: int) -> pd.DataFrame:
    """What a teacher says of what a fold is trained on; see stages.training.soft_targets.

    Raises:
        UserError: the stage `teacher` has not run.
    """
    path = paths.teacher(fold)
    if not path.exists():
        raise UserError(f"{path} not found: run `dvc repro teacher@{fold}` first")
    return pd.read_parquet(path)


def _write(fold: int, trained: Trained, base: str, summary: dict) -> None:
    adapter = paths.adapter(fold)
    for path in (adapter, paths.predictions(fold), paths.summary(fold)):
        path.parent.mkdir(parents=True, exist_ok=True)
    revision = summary["checkpoint"]["revision"]
    save(trained, base, revision, adapter)
    trained.predictions.to_parquet(paths.predictions(fold), index=False)
    trained.curves.to_csv(paths.curves(fold), index=False)
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    paths.summary(fold).write_text(text + "\n", encoding="utf-8")
