"""What a vote can say, and probabilities over that: (n, C) in the order of LABELS.

The classes are those that occur: C is 3, or 2 where no vote is for a tie.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax

LABELS = ("a", "b", "tie")  # a label is a place in this order: 0, 1, 2
MIRRORED = (1, 0, 2)  # what a label, or a column, becomes when A and B are exchanged
TARGETS = tuple(f"target_{label}" for label in LABELS)  # columns of battles
FLOOR = 1e-6  # the least probability: one row costs at most 13.8 of log loss


def with_classes(battles: pd.DataFrame, used: pd.Series | bool = True) -> pd.DataFrame:
    """Leave out the column of ties where none of the votes in use is for one.

    Args:
        battles: with the columns TARGETS.
        used: a mask of the rows that are held out at some time. What the others, which are only
            trained on, give to a tie then goes to A and B in halves.
    """
    if (battles.target_tie * used).any():
        return battles
    halves = {name: battles[name] + battles.target_tie / 2 for name in TARGETS[:2]}
    return battles.assign(**halves).drop(columns="target_tie")


def targets_of(battles: pd.DataFrame) -> np.ndarray:
    """The probabilities that the votes say: (n, C), one-hot for a plain vote."""
    return battles[[name for name in TARGETS if name in battles]].to_numpy(dtype=np.float64)


@dataclass(frozen=True)
class Votes:
    """Votes on battles.

    Attributes:
        targets: (n, C) probabilities of A, B and, if there are ties, tie; one-hot for plain votes.
        weights: (n,), how much each counts.
    """

    targets: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, rows: np.ndarray | slice) -> "Votes":
        return Votes(self.targets[rows], self.weights[rows])

    @property
    def classes(self) -> int:
        """C: 3, or 2 without ties."""
        return self.targets.shape[1]

    @property
    def labels(self) -> np.ndarray:
        """The class that each vote finds most probable, the first of equal ones: (n,)."""
        return self.targets.argmax(axis=1)

    @property
    def shares(self) -> np.ndarray:
        """The class shares: (C,)."""
        return np.average(self.targets, axis=0, weights=self.weights)

    def mean(self, values: np.ndarray) -> float:
        """The mean of a value of each vote, by weight."""
        return float(np.average(values, weights=self.weights))


def votes_of(battles: pd.DataFrame) -> Votes:
    """The votes of a frame of battles, as stages.votes.labels.with_classes leaves it."""
    return Votes(targets_of(battles), battles.weight.to_numpy(dtype=np.float64))


def mirrored(columns: np.ndarray) -> np.ndarray:
    """Columns (n, C) of A, B and, if there are ties, tie with A and B exchanged."""
    return columns[:, list(MIRRORED[: columns.shape[1]])]


def floored(probabilities: np.ndarray) -> np.ndarray:
    """Raise probabilities to at least about FLOOR and let each row sum to 1 again."""
    raised = np.maximum(np.asarray(probabilities, dtype=np.float64), FLOOR)
    return raised / raised.sum(axis=1, keepdims=True)


def from_logits(logits: np.ndarray) -> np.ndarray:
    """Softmax of (n, C) logits in float64; rows sum to 1 and none is 0."""
    return floored(softmax(np.asarray(logits, dtype=np.float64), axis=1))
