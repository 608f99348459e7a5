"""Battles that `prepare` wrote, read back, also with the folds that `split` dealt them into."""

import pandas as pd

from stages.config.errors import UserError
from stages.config.paths import BATTLES, FOLDS


def read_battles(columns: list[str]) -> pd.DataFrame:
    """Read columns of the battles that `prepare` wrote.

    Raises:
        UserError: it has not run yet.
    """
    if not BATTLES.exists():
        raise UserError(f"{BATTLES} not found: run `dvc repro prepare` first")
    return pd.read_parquet(BATTLES, columns=columns)


def read_folded_battles(columns: list[str]) -> pd.DataFrame:
    """Rows of the folds with the given columns of their battles: id, group, fold, columns."""
    battles = read_battles(["id", *columns])
    return pd.read_parquet(FOLDS).merge(battles, on="id", validate="one_to_one")
