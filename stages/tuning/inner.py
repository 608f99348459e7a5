"""The inner split: which votes the trials train on, and which judge them.

Trials train on the votes of the outer folds, and are judged on those that split.tuning has reserved
and no fold evaluates. So no loss on a vote that some fold evaluates is looked at when settings are
chosen: it is one of the training votes of every trial alike.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.config.errors import UserError
from stages.config.params import Params
from stages.config.paths import BATTLES
from stages.runs.lock import read_lock
from stages.scoring.scores import example_losses
from stages.votes.folds import fold_battles
from stages.votes.labels import Votes, floored, votes_of, with_classes

SHARE = 0.15  # of the votes: what an error proposes to reserve


@dataclass(frozen=True)
class Inner:
    """Battles with their groups and folds, as stages.training.fold.train_fold takes them."""

    training: pd.DataFrame
    held_out: pd.DataFrame

    @property
    def votes(self) -> Votes:
        """Those that judge."""
        return votes_of(self.held_out)

    def prior(self) -> float:
        """Their log loss by the class shares of the run's own training votes."""
        own = votes_of(self.training[~self.training.training_only])
        shares = floored(np.tile(own.shares, (len(self.votes), 1)))
        return self.votes.mean(example_losses(self.votes, shares))

    def mean(self, losses: np.ndarray) -> tuple[float, float]:
        """The mean of the held-out votes' losses (n,) and its standard error.

        Votes on one prompt are not independent, so whole prompt groups are its unit.

        Source: Cochran 1977, Sampling Techniques, section 9A: the variance of a ratio of sums.
        """
        weights, mean = self.votes.weights, self.votes.mean(losses)
        sums = pd.Series(weights * (losses - mean)).groupby(self.held_out.group.to_numpy()).sum()
        spread = np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1))
        return mean, float(spread / weights.sum())


def inner_split(raw: dict, params: Params) -> Inner:
    """Split the battles that `prepare` wrote.

    Votes from elsewhere are trained on, but for those of a prompt group that judges.

    Args:
        raw: the mapping that params were read from.

    Raises:
        UserError: no vote is reserved, or `prepare` has not run with these params.
    """
    if not params.split.tuning:
        raise UserError(_refusal())
    _require_prepared(raw)
    folds, _, _ = fold_battles(params)
    battles = pd.read_parquet(BATTLES).merge(folds, on="id", validate="1:1")
    battles = with_classes(battles, battles.fold >= 0)
    reserved = (battles.fold < 0) & ~battles.training_only
    shared = ~reserved & battles.group.isin(battles.group[reserved])
    parts = (battles[rows].reset_index(drop=True) for rows in (~reserved & ~shared, reserved))
    return Inner(*parts)


def _refusal() -> str:
    wider = (1 - SHARE) ** -0.5 - 1
    return (
        "expected votes that are reserved for tuning, found none: split.tuning is 0. Every vote is "
        "then evaluated by some fold, and settings chosen on it would flatter that fold. Give "
        f"`-S split.tuning={SHARE}` to this command, and to every run that is compared with its "
        f"winner (`dvc exp run -S split.tuning={SHARE}`). It costs {SHARE:.0%} of the evaluated "
        f"votes, so that intervals are some {wider:.0%} wider; all folds train on the reserved "
        "votes, so that no training loses any"
    )


def _require_prepared(raw: dict) -> None:
    used = read_lock(Path()).get("prepare", {}).get("params", {}).get("params.yaml", {})
    if changed := [key for key, value in used.items() if raw[key] != value]:
        raise UserError(
            f"{BATTLES} was made with another {' and another '.join(sorted(changed))}, as dvc.lock "
            "says: run `dvc exp run prepare` with the same -S first"
        )
