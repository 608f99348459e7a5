"""The battles to rate, from a file of votes or from what `prepare` wrote."""

from pathlib import Path

import pandas as pd

from stages.config.params import Params
from stages.config.paths import BATTLES
from stages.ranking.bradley_terry import win_shares
from stages.votes.accounts import prepare
from stages.votes.groups import find_groups
from stages.votes.labels import TARGETS
from stages.votes.prepared import read_battles
from stages.votes.rows import MODELS, TURNS

COLUMNS = ("id", *MODELS, *TURNS, *TARGETS, "weight", "training_only")


def read(file: Path | None, params: Params) -> tuple[pd.DataFrame, str]:
    """Battles with A's part of each win, and where they are from.

    Args:
        file: of votes, in any layout; None takes what `prepare` wrote of data.raw.

    Returns:
        id, model_a, model_b, TURNS, weight, group and wins; and a name of the place.

    Raises:
        UserError: the file cannot be read, or `prepare` has not run.
    """
    if file is None:
        battles = read_battles(list(COLUMNS))
        battles = battles[~battles.training_only].reset_index(drop=True)
    else:
        data = params.data.model_copy(update={"raw": str(file)})
        battles = prepare(data, data, params.seed).battles.to_pandas()[list(COLUMNS)]
    wins = win_shares(battles[list(TARGETS)].to_numpy())
    named = battles.drop(columns=[*TARGETS, "training_only"])
    group = find_groups(battles.prompt).names
    return named.assign(wins=wins, group=group), str(file or BATTLES)
