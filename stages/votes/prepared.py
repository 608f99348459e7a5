"""Battles that `prepare` wrote, read back, also with the folds that `split` dealt them into."""

import pandas as pd

from stages.config.errors import UserError
from stages.config.paths import BATTLES, FOLDS
from stages.votes.labels import TARGETS, with_classes

VOTE = ("label", *TARGETS, "weight")  # what a battle's vote is


def read_battles(columns: list[str]) -> pd.DataFrame:
    """Read columns of the battles that `prepare` wrote.

    Raises:
        UserError: it has not run yet.
    """
    if not BATTLES.exists():
        raise UserError(f"{BATTLES} not found: run `dvc repro prepare` first")
    return pd.read_parquet(BATTLES, columns=columns)


def read_folded_battles(columns: list[str]) -> pd.DataFrame:
    """Battles that are held out in some fold: id, group, fold, their VOTE, and the given columns.

    The column target_tie is missing where no vote is for a tie.
    """
    battles = read_battles(["id", *VOTE, *columns])
    folds = pd.read_parquet(FOLDS)
    held_out = folds[folds.fold >= 0]
    return with_classes(held_out.merge(battles, on="id", validate="one_to_one"))
