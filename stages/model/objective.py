"""The two ways to ask a backbone for a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.votes.labels import LABELS


@dataclass(frozen=True)
class Objective:
    """`classify` has a head of a class each; `sft` reads the answers' tokens off the vocabulary.

    Attributes:
        answers: the vocabulary's ids of the answers in the order of the labels, for `sft`.
        classes: how many there are: 3, or 2 without ties.
    """

    answers: Sequence[int] | None = None
    classes: int = len(LABELS)

    def loss(self, logits: Tensor, targets: Tensor, offsets: Tensor) -> Tensor:
        """Cross-entropy of each example, in nats: (examples,).

        Args:
            targets: (examples, classes), the probabilities that the votes say.
            offsets: (examples, classes), added to the logits of A, B and tie.
        """
        logs = F.log_softmax(self._offset(logits, offsets), dim=1)
        return -(self.class_logits(logs) * targets).sum(dim=1)

    def _offset(self, logits: Tensor, offsets: Tensor) -> Tensor:
        if self.answers is None:
            return logits + offsets
        logits = logits.clone()
        for label, answer in enumerate(self.answers):
            logits[:, answer] += offsets[:, label]
        return logits

    def class_logits(self, logits: Tensor) -> Tensor:
        """The logits of A, B and tie: (examples, classes)."""
        if self.answers is None:
            return logits
        return torch.stack([logits[:, answer] for answer in self.answers], dim=1)
