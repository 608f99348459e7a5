"""Examples packed into rows of tokens, and the order in which training sees them."""

import heapq
import itertools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Grid:
    """The few shapes of rows that are filled up, so that a pass over one fits the next.

    Attributes:
        step: a row's tokens are a multiple of it.
        most: examples of a row.
        longest: tokens of the longest example, or of what fills a row if that is more.
    """

    step: int
    most: int
    longest: int


@dataclass(frozen=True)
class Row:
    """Examples one after another in one row; positions count anew from 0 in each.

    What fills a row up is one more example, whose result nobody reads; examples of no tokens, up to
    the most there may be, follow it.

    Attributes:
        input_ids, position_ids: (1, tokens).
        bounds: (examples + 1,) int32, where each example begins, and the last one ends.
        lengths: tokens of each example that has any.
        longest: the most of these, or of those of any row of the grid.
        index: which of the packed examples the first ones are.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    bounds: torch.Tensor
    lengths: tuple[int, ...]
    longest: int
    index: list[int]

    @property
    def places(self) -> int:
        """How many results a pass over it gives."""
        return len(self.bounds) - 1

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What differs between rows of one shape."""
        return self.input_ids, self.position_ids, self.bounds

    def to(self, device: torch.device) -> "Row":
        """The same row with its tensors on a device."""
        return self.with_tensors(send(tensor, device) for tensor in self.tensors)

    def with_tensors(self, tensors: Iterable[torch.Tensor]) -> "Row":
        """The same row with other tensors."""
        input_ids, position_ids, bounds = tensors
        return Row(input_ids, position_ids, bounds, self.lengths, self.longest, self.index)


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device; a GPU is not waited for, which only pinned memory allows."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def pack(
    examples: Sequence[Sequence[int]], budget: int, grid: Grid | None = None, together: int = 1
) -> list[Row]:
    """Pack token ids into as few rows as a budget of tokens allows, all about as long.

    An example longer than the budget has a row of its own.

    Args:
        grid: the shapes that rows are filled up to; they stay as long as they are if None.
        together: how many neighbours stay together, in order.
    """
    lengths = [sum(map(len, examples[i : i + together])) for i in range(0, len(examples), together)]
    most = grid.most // together if grid else max(len(lengths), 1)
    count = min(max(math.ceil(sum(lengths) / budget), math.ceil(len(lengths) / most)), len(lengths))
    while True:
        parts = balanced(lengths, count, most)
        if all(len(part) == 1 or sum(lengths[i] for i in part) <= budget for part in parts):
            return [_join(examples, apart(part, together), grid) for part in parts]
        count += 1


def apart(units: Sequence[int], together: int) -> list[int]:
    """Which examples these units of so many neighbours are."""
    return [unit * together + i for unit in units for i in range(together)]


def _join(examples: Sequence[Sequence[int]], index: list[int], grid: Grid | None) -> Row:
    lengths = [len(examples[i]) for i in index]
    bounds = [0, *itertools.accumulate(lengths)]
    tokens = [token for i in index for token in examples[i]]
    if grid:
        short = -len(tokens) % grid.step
        tokens += [0] * short
        lengths += [short] if short else []
        bounds += [len(tokens)] * (grid.most + 2 - len(bounds))
    return Row(
        input_ids=torch.tensor([tokens]),
        position_ids=torch.cat([torch.arange(n) for n in lengths])[None],
        bounds=torch.tensor(bounds, dtype=torch.int32),
        lengths=tuple(lengths),
        longest=grid.longest if grid else max(lengths),
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
    return balanced(lengths, world, len(lengths))[rank]


def balanced(lengths: Sequence[int], count: int, most: int) -> list[list[int]]:
    """Deal examples into parts with about as many tokens each (longest processing time first).

    Args:
        count: of the parts; those beyond the number of examples are empty.
        most: examples of a part; all parts together must hold all.
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    lightest = [(0, part) for part in range(count)]
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        tokens, part = heapq.heappop(lightest)
        parts[part].append(i)
        if len(parts[part]) < most:
            heapq.heappush(lightest, (tokens + lengths[i], part))
    return [sorted(part) for part in parts]
