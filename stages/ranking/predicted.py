"""What a model predicts of battles: a run's out-of-fold predictions, or a file's."""

from pathlib import Path

import pandas as pd

from stages.config.errors import UserError
from stages.distillation.soft_labels import read_predictions
from stages.ranking.bradley_terry import win_shares
from stages.runs import finished
from stages.scoring.predictions import columns_of, order_probabilities
from stages.votes.files import kind
from stages.votes.labels import LABELS


def predicted_wins(name: str) -> pd.Series:
    """A's part of each win by the predictions of a run or a file, by the battle's id.

    Args:
        name: of a run, as stages.runs.finished.fetch takes it, or of a file of predictions: a
            .parquet as training writes it, with logits in both orders, or a table with an id and
            probabilities.

    Raises:
        UserError: there is no such run, or the file is none of predictions.
    """
    path = Path(name)
    if not path.is_file():
        if kind(path):
            raise UserError(f"{path} is no file: expected predictions by id, or the name of a run")
        finished.require_known(name)
        result, _ = finished.fetch(name)
        return pd.Series(win_shares(result.probabilities("backbone")), result.rows.id)
    if path.suffix == ".parquet" and len(columns_of(table := pd.read_parquet(path), "ab")) > 1:
        ab, ba = order_probabilities(table)
        return _by_id(pd.Series(win_shares((ab + ba) / 2), table.id), path)
    table = read_predictions(path)
    return _by_id(pd.Series(win_shares(table[list(LABELS)].to_numpy()), table.id), path)


def _by_id(wins: pd.Series, path: Path) -> pd.Series:
    twice = wins.index[wins.index.duplicated()]
    if len(twice):
        raise UserError(f"{path}: expected one prediction for each id, {twice[0]} has several")
    return wins
