"""The plain way through a model: its own forward, examples side by side, shorter ones padded.

Nothing of ours is inside its layers, so it serves whatever transformers can load. Padding stands on
the right. No token of a causal model sees what comes after it, so padding changes no result there;
a model that reads both ways is told by the mask. Where a model sees padding all the same, only
examples of equal length are put side by side, so that there is none.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor, nn

from stages.model.head import head
from stages.model.kinds import reads_both_ways
from stages.model.packing import apart, send
from stages.model.stock import backbone


@dataclass(frozen=True)
class Batch:
    """Examples side by side.

    Attributes:
        input_ids, attention_mask: (examples, tokens).
        last: (examples,), where each example's last token is; an encoder's first is read.
        index: which of the given examples these are.
    """

    input_ids: Tensor
    attention_mask: Tensor
    last: Tensor
    index: list[int]

    @property
    def places(self) -> int:
        """How many results a pass over it gives."""
        return len(self.index)

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on a device."""
        ids, mask = send(self.input_ids, device), send(self.attention_mask, device)
        return Batch(ids, mask, send(self.last, device), self.index)


def batches(
    examples: Sequence[Sequence[int]], budget: int, padding: bool = True, together: int = 1
) -> list[Batch]:
    """Lay token ids side by side, those of like length together, padding counted in the budget.

    An example longer than the budget has a batch of its own.

    Args:
        padding: whether shorter examples are padded; else all of a batch have the same length.
        together: how many neighbours stay together, in order; without padding it is one.
    """
    starts = range(0, len(examples), together)
    lengths = [max(map(len, examples[i : i + together])) for i in starts]
    parts: list[list[int]] = []
    for unit in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        fits = parts and (len(parts[-1]) + 1) * together * lengths[unit] <= budget
        if fits and (padding or lengths[parts[-1][0]] == lengths[unit]):
            parts[-1].append(unit)
        else:
            parts.append([unit])
    return [_batch(examples, apart(part, together)) for part in parts]


def _batch(examples: Sequence[Sequence[int]], index: list[int]) -> Batch:
    lengths = [len(examples[i]) for i in index]
    ids = torch.zeros(len(index), max(lengths), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (i, length) in enumerate(zip(index, lengths, strict=True)):
        ids[row, :length] = torch.tensor(examples[i])
        mask[row, :length] = 1
    return Batch(ids, mask, torch.tensor(lengths) - 1, index)


def logits(model: PeftModel, batch: Batch) -> Tensor:
    """What the head says at the token it reads: (examples, classes or vocabulary).

    A language model's own forward gives it, so that whatever the model does to its logits is done:
    only its head is handed fewer tokens.
    """
    base = model.get_base_model()
    reads = head(model)
    rows = torch.arange(batch.places, device=batch.last.device)
    inputs = {"input_ids": batch.input_ids}
    if hasattr(base, "score"):
        part = backbone(base)
        hidden = part(**inputs, **_masked(part, batch)).last_hidden_state
        return reads(hidden[rows, 0 if reads_both_ways(base) else batch.last].float())
    with _read_at(reads, rows, batch.last):
        return base(**inputs, **_masked(base, batch)).logits[:, 0].float()


def _masked(module: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The mask, for those that take one."""
    takes = "attention_mask" in inspect.signature(module.forward).parameters
    return {"attention_mask": batch.attention_mask} if takes else {}


@contextmanager
def _read_at(reads: nn.Module, rows: Tensor, last: Tensor) -> Iterator[None]:
    """Let a language-model head see each example's last token alone."""

    def pick(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0][rows, last][:, None], *given[1:])

    hook = reads.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        hook.remove()
