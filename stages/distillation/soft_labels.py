"""Files of a model's predictions by id, as a teacher."""

import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from stages.config.data import Data
from stages.config.errors import UserError
from stages.config.paths import lesson
from stages.config.teacher import Predictions
from stages.votes.files import read_rows
from stages.votes.labels import LABELS
from stages.votes.parts import ids_by_file
from stages.votes.rows import WINNERS, blank

NAMES = (WINNERS, LABELS)  # of the columns of probabilities
PREDICTIONS = "predictions.parquet"
OFF = 1e-3  # how far a row's sum may be off 1, by rounding


def read_predictions(path: Path) -> pd.DataFrame:
    """Read a file of predictions.

    Args:
        path: rows with an id and probabilities, under Kaggle's names or as a, b and tie. A column
            `fold` says which fold's student a row is for; its model must not have seen the votes
            of that fold.

    Returns:
        id, fold (missing where the file has none), a, b, tie.

    Raises:
        UserError: a column is missing, a value is no probability, a row does not sum to 1, or an id
            stands twice for one fold.
    """
    rows = list(read_rows(path))
    found = set(rows[0]) if rows else set()
    names = next((names for names in NAMES if {"id", *names} <= found), None)
    if names is None:
        expected = " or ".join(", ".join(("id", *names)) for names in NAMES)
        raise UserError(
            f"{path}: expected the columns {expected}, found {', '.join(map(str, found)) or 'none'}"
        )
    table = pd.DataFrame(
        {
            "id": pd.array([str(row["id"]) for row in rows], dtype="string"),
            "fold": _folds(rows, path),
            **{
                label: [_number(row[name]) for row in rows]
                for label, name in zip(LABELS, names, strict=True)
            },
        }
    )
    _check(table, path)
    return table


def _folds(rows: list[dict], path: Path) -> pd.Series:
    if "fold" not in rows[0]:
        return pd.Series(pd.NA, range(len(rows)), "Int64")
    given = [_number(row["fold"]) for row in rows]
    if bad := [place for place, fold in enumerate(given, start=1) if not fold.is_integer()]:
        raise UserError(
            f"{path}: expected the number of a fold in `fold`, {_places(bad)} have none"
        )
    return pd.Series(given).astype("Int64")


def _number(value: object) -> float:
    try:
        return math.nan if blank(value) else float(str(value))
    except ValueError:
        return math.nan


def _check(table: pd.DataFrame, path: Path) -> None:
    values = table[list(LABELS)].to_numpy()
    wrong = ~((values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= OFF))
    if wrong.any():
        raise UserError(
            f"{path}: expected probabilities from 0 that sum to 1, "
            f"{_places(np.flatnonzero(wrong) + 1)} have others, such as {values[wrong][0]}"
        )
    twice = table.duplicated(["id", "fold"])
    if twice.any():
        raise UserError(
            f"{path}: expected one row for each id, or for each id and fold, "
            f"{_places(np.flatnonzero(twice) + 1)} repeat one, such as {table.id[twice].iloc[0]}"
        )


def _places(rows: list[int] | np.ndarray) -> str:
    """Numbers of rows, counted from 1, in words."""
    shown = ", ".join(map(str, rows[:5]))
    return f"{len(rows)} rows ({shown}{', …' if len(rows) > 5 else ''})"


def all_predictions(files: int) -> pd.DataFrame:
    """What the stage `predictions` wrote of so many files.

    Raises:
        UserError: two of them predict the same.
    """
    places = [lesson("predictions", f"file{place}") for place in range(files)]
    table = pd.concat([pd.read_parquet(place / PREDICTIONS) for place in places], ignore_index=True)
    twice = table.id[table.duplicated(["id", "fold"])]
    if len(twice):
        raise UserError(
            f"teacher.predictions: expected one prediction for each id, found {len(twice)} ids in "
            f"two files, such as {twice.iloc[0]}: leave them out in one"
        )
    return table


def count_unknown(table: pd.DataFrame, votes: set[str], pairs: set[str]) -> int:
    """How many predictions are of ids that are neither votes' nor pairs'.

    Raises:
        UserError: a predicted id is both a vote's and a pair's.
    """
    if twice := sorted(votes & pairs & set(table.id)):
        raise UserError(
            f"teacher: {len(twice)} ids, such as {twice[0]}, are those of a vote and of a pair "
            "without one, so that nothing says which of them is predicted: give the pairs others"
        )
    return int((~table.id.isin(votes | pairs)).sum())


def require_one_file(table: pd.DataFrame, data: Data) -> None:
    """Raise a UserError if a predicted id is that of votes of several files.

    The table of votes has such an id once: joining the files makes ID#2 of the second.
    """
    predicted, files_of = set(table.id), defaultdict[str, list[str]](list)
    for raw, ids in ids_by_file(data):
        for id_ in sorted(predicted.intersection(ids)):
            files_of[id_].append(raw)
    shared = {id_: files for id_, files in files_of.items() if len(files) > 1}
    if shared:
        some = ", ".join(list(shared)[:5]) + (", …" if len(shared) > 5 else "")
        raise UserError(
            f"teacher.predictions: expected ids that one file of votes alone has, found "
            f"{len(shared)} ({some}) that several have: {next(iter(shared))} is in "
            f"{' and in '.join(next(iter(shared.values())))}. Nothing says whose votes are "
            "predicted: give the files of votes ids of their own, with a prefix for instance, and "
            "write these in the predictions"
        )


def of_fold(table: pd.DataFrame, fold: int, ids: pd.Series) -> np.ndarray:
    """What the predictions for a fold's student say of ids: (n, 3), NaN where they say nothing.

    Raises:
        UserError: an id has a row for this fold and one for every fold.
    """
    mine = table[table.fold.isna() | (table.fold == fold)]
    twice = mine.id[mine.id.duplicated()]
    if len(twice):
        raise UserError(
            f"teacher.predictions: {twice.iloc[0]} has a row for fold {fold} and one for all "
            "folds: leave one of them out"
        )
    return mine.set_index("id").reindex(ids)[list(LABELS)].to_numpy(dtype=np.float64)


def none_for(
    files: list[Predictions], table: pd.DataFrame, fold: int, ids: pd.Series, known: set[str]
) -> UserError:
    """What to say of predictions that hold nothing of what a fold is trained on.

    Args:
        ids: of what the fold is trained on.
        known: ids of all votes and pairs in use.
    """
    mine = table[table.fold.isna() | (table.fold == fold)]
    if mine.empty:
        others = ", ".join(map(str, sorted(table.fold.unique())))
        why = (
            f"All rows are for the students of other folds ({others}): add rows for fold {fold}, "
            "or leave that fold out of split.folds, with split.of as it is dealt now"
        )
    elif mine.id.isin(known).any():
        why = (
            f"Fold {fold} holds out the votes that are predicted, or their prompts: out-of-fold "
            "predictions do not teach. Predict what the fold is trained on"
        )
    else:
        why = (
            "No vote or pair in use has an id of theirs: write ids as data/prepared/battles.parquet"
            " does (1, not 1.0), predict the votes of this run's data.raw, and see whether the "
            "scale's `rows` leaves the predicted votes out"
        )
    return UserError(
        f"{', '.join(file.raw for file in files)}: expected predictions of what fold {fold} is "
        f"trained on, {len(ids):,} votes and pairs such as {ids.iloc[0]}; found none of these, but "
        f"ids such as {table.id.iloc[0]}. {why}"
    )


def tell_origin(table: pd.DataFrame) -> None:
    """Say what nothing can check: whether the model saw the held-out votes."""
    if table.fold.isna().any():
        print(
            "teacher.predictions has rows without a `fold`, whose origin cannot be checked: they "
            "must come from a model that saw none of these votes"
        )
