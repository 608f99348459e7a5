"""The votes as a backbone sees them: encoded in both orders, with targets to match."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from stages.model.prompts import Encoded, Round, Template
from stages.votes.labels import mirrored, targets_of


@dataclass(frozen=True)
class Examples:
    """Battles of one fold.

    Attributes:
        ids: the battles' ids.
        targets: (examples, classes), the probabilities that the votes give to A, B and tie, as the
            answers stand in the file.
        weights: (examples,), how much each counts.
        offsets: (examples, classes), what is added to the logits, as the answers stand in the file.
    """

    ids: Sequence[str]
    rounds: Sequence[Sequence[Round]]
    targets: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    template: Template

    def __len__(self) -> int:
        return len(self.rounds)

    def encode(self, i: int, swapped: bool = False) -> Encoded:
        """Example i, with A and B exchanged if `swapped`."""
        return self.template.encode(self.rounds[i], swapped)

    @cached_property
    def tokens(self) -> int:
        """Of all examples."""
        return sum(len(self.encode(i)) for i in range(len(self)))

    @property
    def classes(self) -> int:
        """How many classes the votes are for."""
        return self.targets.shape[1]

    def target(self, i: int, swapped: bool = False) -> np.ndarray:
        """The target of example i in that order: (classes,)."""
        return _shown(self.targets, i, swapped)

    def offset(self, i: int, swapped: bool = False) -> np.ndarray:
        """The offset of example i in that order: (classes,)."""
        return _shown(self.offsets, i, swapped)

    def subset(self, index: Sequence[int]) -> "Examples":
        """The examples at these places."""
        return Examples(
            [self.ids[i] for i in index],
            [self.rounds[i] for i in index],
            self.targets[list(index)],
            self.weights[list(index)],
            self.offsets[list(index)],
            self.template,
        )


def _shown(columns: np.ndarray, i: int, swapped: bool) -> np.ndarray:
    row = columns[i : i + 1]
    return (mirrored(row) if swapped else row)[0]


def tokenize(
    battles: pd.DataFrame, template: Template, offsets: np.ndarray | None = None
) -> Examples:
    """Tokenise a frame of battles (columns id, prompt, response_a, response_b, targets, weight;
    and system, if known).

    Args:
        offsets: of their logits; none if None.
    """
    targets, weights = targets_of(battles).astype(np.float32), battles.weight.to_numpy()
    if offsets is None:
        offsets = np.zeros_like(targets)
    rounds = template.tokenize(battles)
    return Examples(battles.id.tolist(), rounds, targets, weights, offsets, template)
