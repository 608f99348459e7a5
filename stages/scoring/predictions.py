"""What trainings and baselines left behind, read and checked: predictions, summaries, curves."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from stages.config.errors import UserError
from stages.config.paths import BASELINE_PREDICTIONS, PREDICTIONS, SUMMARIES
from stages.votes.labels import LABELS, from_logits


def read_predictions(folds: pd.DataFrame, folder: Path = PREDICTIONS) -> pd.DataFrame:
    """Each row's logits by the model of its own fold.

    Args:
        folds: id and fold of every row.
        folder: of the files fold-K.parquet; those of other folds are left alone.

    Returns:
        The rows of `folds` in the same order: id, fold, tokens, tokens_dropped, ab_*, ba_*.

    Raises:
        UserError: a file is missing, a logit is not finite, or a row has no prediction or several.
    """
    parts = [_read_fold(folder, fold) for fold in sorted(folds.fold.unique())]
    found = pd.concat(parts, ignore_index=True).astype({"fold": folds.fold.dtype})
    _check_one_each(folds, found)
    return folds[["id", "fold"]].merge(found, on=["id", "fold"], validate="one_to_one")


def _read_fold(folder: Path, fold: int) -> pd.DataFrame:
    path = folder / f"fold-{fold}.parquet"
    if not path.exists():
        raise UserError(f"{path} not found: run `dvc repro`, which trains fold {fold}")
    rows = pd.read_parquet(path)
    logits = rows[[name for order in ("ab", "ba") for name in columns_of(rows, order)]]
    broken = rows.id[~np.isfinite(logits).all(axis=1)]
    if len(broken):
        raise UserError(
            f"{path}: expected finite logits, found {_some(broken)} with NaN or infinite ones. "
            f"Lower the learning rate or set train.dtype to float32, then `dvc repro`"
        )
    return rows.assign(fold=fold)


def _check_one_each(folds: pd.DataFrame, found: pd.DataFrame) -> None:
    expected, keys = (pd.MultiIndex.from_frame(f[["id", "fold"]]) for f in (folds, found))
    problems = {
        "without a prediction": expected.difference(keys),
        "predicted more than once": keys[keys.duplicated()].unique(),
        "predicted by a fold that does not hold them": keys.difference(expected),
    }
    told = [
        f"{_some(rows.get_level_values(0))} {what}" for what, rows in problems.items() if len(rows)
    ]
    if told:
        wrong = sorted({int(fold) for rows in problems.values() for _, fold in rows})
        raise UserError(
            f"{PREDICTIONS}: expected one prediction for each of {len(folds)} rows, by the model "
            f"of its own fold, found {'; '.join(told)}. Train again what is out of date: "
            f"`dvc repro --force --single-item {' '.join(f'train@{fold}' for fold in wrong)}`"
        )


def _some(ids: pd.Index | pd.Series) -> str:
    shown = ", ".join(str(i) for i in ids[:5])
    return f"{len(ids)} row{'s'[: len(ids) > 1]} ({shown}{', …' if len(ids) > 5 else ''})"


def read_summaries(folds: list[int], folder: Path = SUMMARIES) -> list[dict]:
    """Each fold's fold-K.json.

    Raises:
        UserError: a file is missing, or the folds were trained from different checkpoints.
    """
    paths = [folder / f"fold-{fold}.json" for fold in folds]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UserError(f"{', '.join(missing)} not found: run `dvc repro`, which trains the folds")
    summaries = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    trained = {
        json.dumps([s["checkpoint"], s["objective"], s.get("offset", False)], sort_keys=True)
        for s in summaries
    }
    if len(trained) > 1:
        raise UserError(
            f"{folder}: expected one checkpoint, objective and offset in all folds, found "
            f"{'; '.join(sorted(trained))}. Run `dvc repro`, which trains the folds out of date"
        )
    return summaries


def read_curves(folds: list[int], folder: Path = SUMMARIES) -> list[pd.DataFrame]:
    """Each fold's fold-K.csv: step, epoch, training_loss, validation_loss, lr, grad_norm."""
    return [pd.read_csv(folder / f"fold-{fold}.csv") for fold in folds]


def order_probabilities(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, C) of the answers as stored, and exchanged and mapped back."""
    ab, ba = (
        from_logits(predictions[columns_of(predictions, order)].to_numpy())
        for order in ("ab", "ba")
    )
    return ab, ba


def read_baselines(rows: pd.DataFrame, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Probabilities (n, C) of each baseline, by its name, in the order of the rows' ids."""
    table = pd.read_parquet(BASELINE_PREDICTIONS)
    table = rows[["id"]].merge(table, on="id", validate="one_to_one")
    return {name: table[columns_of(table, name)].to_numpy() for name in names}


def columns_of(table: pd.DataFrame, name: str) -> list[str]:
    """Which of the columns NAME_a, NAME_b and NAME_tie a table has: without ties two."""
    return [f"{name}_{label}" for label in LABELS if f"{name}_{label}" in table]


def columns(probabilities: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns NAME_a, NAME_b and, if there are ties, NAME_tie of probabilities (n, C) by name."""
    return {
        f"{name}_{label}": column
        for name, values in probabilities.items()
        for label, column in zip(LABELS, values.T, strict=False)
    }
