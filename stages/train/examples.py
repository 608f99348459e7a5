"""The votes as a backbone sees them: encoded in both orders, with labels to match."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from stages.prompts import Encoded, Round, Template

MIRRORED = (1, 0, 2)  # what a label, or a column of logits, becomes when A and B are exchanged


@dataclass(frozen=True)
class Examples:
    """Battles of one fold.

    Attributes:
        ids: the battles' ids.
        labels: 0 for A, 1 for B, 2 for a tie, as the answers stand in the file.
    """

    ids: Sequence[str]
    rounds: Sequence[Sequence[Round]]
    labels: Sequence[int]
    template: Template

    def __len__(self) -> int:
        return len(self.rounds)

    def encode(self, i: int, swapped: bool = False) -> Encoded:
        """Example i, with A and B exchanged if `swapped`."""
        return self.template.encode(self.rounds[i], swapped)

    def label(self, i: int, swapped: bool = False) -> int:
        """The label of example i in that order."""
        return MIRRORED[self.labels[i]] if swapped else self.labels[i]

    def subset(self, index: Sequence[int]) -> "Examples":
        """The examples at these places."""
        ids, rounds, labels = (
            [values[i] for i in index] for values in (self.ids, self.rounds, self.labels)
        )
        return Examples(ids, rounds, labels, self.template)


def tokenize(battles: pd.DataFrame, template: Template) -> Examples:
    """Tokenise a frame of battles (columns id, prompt, response_a, response_b, label)."""
    turns = zip(battles.prompt, battles.response_a, battles.response_b, strict=True)
    return Examples(battles.id.tolist(), template.tokenize(turns), battles.label.tolist(), template)
