"""The two ways to ask a backbone for a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Objective:
    """`classify` has a head of three classes; `sft` reads the answers' tokens off the vocabulary.

    Attributes:
        answers: the vocabulary's ids of the three answers in the order of the labels, for `sft`.
    """

    answers: Sequence[int] | None = None

    def targets(self, labels: Sequence[int]) -> Tensor:
        """The class or vocabulary id that each label stands for: (examples,), on the CPU."""
        return torch.tensor(
            [label if self.answers is None else self.answers[label] for label in labels]
        )

    def loss(self, logits: Tensor, targets: Tensor, offsets: Tensor) -> Tensor:
        """Cross-entropy of each example, in nats: (examples,).

        Args:
            offsets: (examples, 3), added to the logits of A, B and tie.
        """
        return F.cross_entropy(self._offset(logits, offsets), targets, reduction="none")

    def _offset(self, logits: Tensor, offsets: Tensor) -> Tensor:
        if self.answers is None:
            return logits + offsets
        logits = logits.clone()
        for label, answer in enumerate(self.answers):
            logits[:, answer] += offsets[:, label]
        return logits

    def class_logits(self, logits: Tensor) -> Tensor:
        """The logits of A, B and tie: (examples, 3)."""
        if self.answers is None:
            return logits
        return torch.stack([logits[:, answer] for answer in self.answers], dim=1)
