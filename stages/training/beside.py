"""Votes from elsewhere that a fold is trained on beside its own: which ones, and their offsets."""

import numpy as np
import pandas as pd

from stages.training.soft_targets import without_vote
from stages.votes.labels import votes_of


def parts(battles: pd.DataFrame, fold: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a fold is trained on, and what it holds out.

    Votes that are only trained on (fold -1), from elsewhere or reserved for tuning, join every
    training, but for those of a prompt group that is held out.

    Args:
        battles: all of them, with their groups and folds.
    """
    held_out, only_trained = battles.fold == fold, battles.fold < 0
    shared = only_trained & battles.group.isin(battles.group[held_out])
    if only_trained.any():
        joined, out = (only_trained & ~shared).sum(), shared.sum()
        print(f"{joined} votes are only trained on; {out} share a held-out prompt and are left out")
    return battles[~held_out & ~shared], battles[held_out]


def own_votes(battles: pd.DataFrame) -> pd.Series:
    """Which votes are no others': those of the folds, and those that are reserved for tuning."""
    return ~battles.training_only


def offsets(training: pd.DataFrame) -> np.ndarray:
    """What is added to logits in training, so that another source's class shares are not learned.

    It is, for votes from elsewhere, the log of their source's class shares less that of
    the fold's own. A source without ties then says nothing of ties. Predictions have none of it.
    Pairs without votes have none, either: a teacher says what the fold's own people would choose,
    and if its class shares are others there, it is since the pairs are.

    Source: Menon et al. 2021, Long-tail learning via logit adjustment.

    Returns:
        (n, C) float32; 0 for the run's own votes, and for pairs without votes.
    """
    own, pseudo = own_votes(training), without_vote(training)
    found = np.zeros((len(training), votes_of(training).classes), dtype=np.float32)
    for source in training.source[~own & ~pseudo].unique():
        rows = (~own & ~pseudo & (training.source == source)).to_numpy()
        found[rows] = _log_shares(training[rows]) - _log_shares(training[own])
    return found


def _log_shares(battles: pd.DataFrame) -> np.ndarray:
    """Logs of the class shares, as if each class had one vote more: (C,)."""
    votes = votes_of(battles)
    counts = (votes.targets * votes.weights[:, None]).sum(axis=0) + 1
    return np.log(counts / counts.sum())
