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


def read_folded_battles(columns: list[str], folds: list[int] | None = None) -> pd.DataFrame:
    """Battles in use: id, group, fold, their VOTE, and the given columns.

    The column target_tie is missing where no vote of any fold is for a tie.

    Args:
        folds: those that hold the battles out; None for all battles, also those of fold -1 that
            split.tuning has reserved.
    """
    battles = read_battles(["id", *VOTE, "training_only", *columns])
    own = battles[~battles.pop("training_only")]
    found = pd.read_parquet(FOLDS).merge(own, on="id", validate="one_to_one")
    found = with_classes(found, found.fold >= 0)
    return found if folds is None else found[found.fold.isin(folds)].reset_index(drop=True)
