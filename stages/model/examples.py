"""The votes as a backbone sees them: encoded in both orders, with labels to match."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.model.prompts import Encoded, Round, Template
from stages.votes.labels import MIRRORED


@dataclass(frozen=True)
class Examples:
    """Battles of one fold.

    Attributes:
        ids: the battles' ids.
        labels: 0 for A, 1 for B, 2 for a tie, as the answers stand in the file.
        offsets: (examples, 3), what is added to the logits of A, B and tie, likewise.
    """

    ids: Sequence[str]
    rounds: Sequence[Sequence[Round]]
    labels: Sequence[int]
    offsets: np.ndarray
    template: Template

    def __len__(self) -> int:
        return len(self.rounds)

    def encode(self, i: int, swapped: bool = False) -> Encoded:
        """Example i, with A and B exchanged if `swapped`."""
        return self.template.encode(self.rounds[i], swapped)

    def label(self, i: int, swapped: bool = False) -> int:
        """The label of example i in that order."""
        return MIRRORED[self.labels[i]] if swapped else self.labels[i]

    def offset(self, i: int, swapped: bool = False) -> np.ndarray:
        """The offset of example i in that order: (3,)."""
        return self.offsets[i, list(MIRRORED)] if swapped else self.offsets[i]

    def subset(self, index: Sequence[int]) -> "Examples":
        """The examples at these places."""
        return Examples(
            [self.ids[i] for i in index],
            [self.rounds[i] for i in index],
            [self.labels[i] for i in index],
            self.offsets[list(index)],
            self.template,
        )


def tokenize(
    battles: pd.DataFrame, template: Template, offsets: np.ndarray | None = None
) -> Examples:
    """Tokenise a frame of battles (columns id, prompt, response_a, response_b, label).

    Args:
        offsets: of their logits; none if None.
    """
    turns = zip(battles.prompt, battles.response_a, battles.response_b, strict=True)
    if offsets is None:
        offsets = np.zeros((len(battles), len(MIRRORED)), dtype=np.float32)
    ids, labels = battles.id.tolist(), battles.label.tolist()
    return Examples(ids, template.tokenize(turns), labels, offsets, template)
