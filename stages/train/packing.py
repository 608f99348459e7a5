"""Examples packed into rows without padding, and the order in which training sees them."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Row:
    """Examples one after another in one row; positions count anew from 0 in each.

    Attributes:
        input_ids, position_ids: (1, tokens).
        bounds: (examples + 1,) int32, where each example begins, and the last one ends.
        lengths: tokens of each example.
        index: which of the packed examples each one is.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    bounds: torch.Tensor
    lengths: tuple[int, ...]
    index: list[int]

    def to(self, device: torch.device) -> "Row":
        """The same row with its tensors on a device."""
        tensors = (self.input_ids, self.position_ids, self.bounds)
        return Row(*(send(tensor, device) for tensor in tensors), self.lengths, self.index)


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device; a GPU is not waited for, which only pinned memory allows."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def pack(examples: Sequence[Sequence[int]], budget: int) -> list[Row]:
    """Pack token ids into rows of at most `budget` tokens, longest first (first-fit decreasing)."""
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(examples)), key=lambda i: -len(examples[i])):
        fits = (r for r, left in enumerate(room) if len(examples[i]) <= left)
        r = next(fits, len(rows))
        if r == len(rows):
            rows.append([])
            room.append(budget)
        rows[r].append(i)
        room[r] -= len(examples[i])
    return [_join(examples, sorted(row)) for row in rows]


def _join(examples: Sequence[Sequence[int]], index: list[int]) -> Row:
    lengths = tuple(len(examples[i]) for i in index)
    return Row(
        input_ids=torch.tensor([[token for i in index for token in examples[i]]]),
        position_ids=torch.cat([torch.arange(n) for n in lengths])[None],
        bounds=torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32),
        lengths=lengths,
        index=index,
    )


@dataclass(frozen=True)
class Step:
    """The examples of one optimiser step, and which of them show A and B exchanged."""

    examples: list[int]
    swapped: list[bool]


def plan(n: int, batch_size: int, epochs: int, swap: bool, seed: int) -> list[Step]:
    """Every optimiser step of a run, in order: a pure function, so that resuming is exact.

    Each epoch shuffles anew and, with `swap`, exchanges A and B in a random half of the examples.
    """
    rng = random.Random(seed)
    steps = []
    for _ in range(epochs):
        order = rng.sample(range(n), n)
        swapped = [swap and rng.random() < 0.5 for _ in order]
        for start in range(0, n, batch_size):
            chosen = slice(start, start + batch_size)
            steps.append(Step(order[chosen], swapped[chosen]))
    return steps


def share(lengths: Sequence[int], rank: int, world: int) -> list[int]:
    """The part of a global batch that one process takes, with tokens balanced between them."""
    parts: list[list[int]] = [[] for _ in range(world)]
    load = [0] * world
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        lightest = min(range(world), key=lambda r: load[r])
        parts[lightest].append(i)
        load[lightest] += lengths[i]
    return sorted(parts[rank])
