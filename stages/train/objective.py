"""The two ways to ask a backbone for a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Objective:
    """`classify` has a head of three classes; `sft` reads the answers' tokens off the vocabulary.

    Attributes:
        answers: the vocabulary's ids of the three answers in the order of the labels, for `sft`.
    """

    answers: Sequence[int] | None = None

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each example, in nats: (examples,)."""
        targets = labels if self.answers is None else labels.new_tensor(self.answers)[labels]
        return F.cross_entropy(logits, targets, reduction="none")

    def class_logits(self, logits: Tensor) -> Tensor:
        """The logits of A, B and tie: (examples, 3)."""
        return logits if self.answers is None else logits[:, list(self.answers)]
