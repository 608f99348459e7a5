"""The three ways to ask a backbone for a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.votes.labels import LABELS


@dataclass(frozen=True)
class Objective:
    """What the head's outputs say of the classes.

    `classify` has an output a class. `sft` reads the answers' tokens off the vocabulary. `reward`
    reads each answer by itself: its reward is the logit that it wins, and what both add up to is
    the logit of a tie (Davidson 1970). Exchanging the answers then exchanges the logits, exactly.

    Attributes:
        answers: the vocabulary's ids of the answers in the order of the labels, for `sft`.
        classes: how many there are: 3, or 2 without ties.
        alone: whether each answer is read by itself, for `reward`.
    """

    answers: Sequence[int] | None = None
    classes: int = len(LABELS)
    alone: bool = False

    @property
    def texts(self) -> int:
        """How many texts an example is."""
        return 2 if self.alone else 1

    @property
    def outputs(self) -> int:
        """How many outputs the head has that is trained."""
        return self.classes - 1 if self.alone else self.classes

    def loss(self, logits: Tensor, targets: Tensor, offsets: Tensor) -> Tensor:
        """Cross-entropy of each example, in nats: (examples,).

        Args:
            logits: (texts, outputs or vocabulary), what the head says.
            targets: (examples, classes), the probabilities that the votes say.
            offsets: (examples, classes), added to the logits of A, B and tie.
        """
        if self.answers is None:
            logs = F.log_softmax(self.class_logits(logits) + offsets, dim=1)
        else:
            logs = self.class_logits(F.log_softmax(self._offset(logits, offsets), dim=1))
        return -(logs * targets).sum(dim=1)

    def _offset(self, logits: Tensor, offsets: Tensor) -> Tensor:
        logits = logits.clone()
        for label, answer in enumerate(self.answers or ()):
            logits[:, answer] += offsets[:, label]
        return logits

    def class_logits(self, logits: Tensor) -> Tensor:
        """The logits of A, B and tie: (examples, classes)."""
        if self.alone:
            # A row that is filled up may end in half a pair.
            pairs = logits[: len(logits) // 2 * 2].view(-1, 2, self.outputs)
            return torch.cat([pairs[:, :, 0], pairs[:, :, 1:].sum(dim=1)], dim=1)
        if self.answers is None:
            return logits
        return torch.stack([logits[:, answer] for answer in self.answers], dim=1)
