"""Passes over rows of one shape, recorded once as a CUDA graph and replayed for the next rows.

A pass is thousands of kernels, and to start them one by one takes the host longer than the GPU
takes to run them. A recorded one is started as a whole.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor

from stages.model.attention import FLASH4, FLEX, VARLEN
from stages.model.layers import all_recomputed, decoder_layers
from stages.model.packing import Grid, Row
from stages.model.sharding import sharded

STEP = 128  # tokens that the lengths of rows are multiples of, at least: some 1 % of a row
COARSEST = 24  # steps of a full row, at least
SERVED = 16  # full rows that a shape is to serve, so that recording it pays
MEAN = 512  # tokens of an example: rows have room for as many examples of that length as fit


@dataclass(frozen=True)
class Recording:
    """A recorded pass; `inputs` are what it reads, and `output` what it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: Sequence[Tensor]
    output: Tensor


class Recorder:
    """Runs passes of a model. All recordings share their memory, and add to the same gradients.

    The first row of a shape is computed as it is, which loads what kernels it needs, and with every
    layer recomputed, so that it needs little memory beside that of the recordings. The second is
    recorded.

    Attributes:
        grid: the shapes that rows must have.
        recording: whether it still does; else every pass is computed as it is.
    """

    def __init__(self, model: PeftModel, grid: Grid) -> None:
        self.grid = grid
        self._model = model
        self._gradients = [(p, torch.zeros_like(p)) for p in model.parameters() if p.requires_grad]
        self.recording = True
        self._seen: set[tuple] = set()
        self._recordings: dict[tuple, Recording] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def stop(self) -> bool:
        """Give up the recordings and their memory, and make no more; returns whether there were."""
        recorded, self.recording = self.recording, False
        self._recordings.clear()
        return recorded

    def hold_gradients(self) -> None:
        """Let every gradient be where recorded passes add to it; a missing one is zero.

        One that lies elsewhere is moved: a recorded pass would go on adding to its old place, which
        by then may be another tensor's.
        """
        missing = [gradient for parameter, gradient in self._gradients if parameter.grad is None]
        if missing:
            torch._foreach_zero_(missing)
        for parameter, gradient in self._gradients:
            if parameter.grad is not None and parameter.grad is not gradient:
                gradient.copy_(parameter.grad)
            parameter.grad = gradient

    def __call__(self, work: Callable[..., Tensor], row: Row, *others: Tensor) -> Tensor:
        """What `work(row, *others)` gives and does to gradients.

        Args:
            work: the same for all rows of a shape, with gradients and without.
            others: of shapes that the row's determines.
        """
        if not self.recording:
            return work(row, *others)
        key = torch.is_grad_enabled(), row.input_ids.shape
        if key not in self._seen:
            self._seen.add(key)
            with all_recomputed(self._model):
                return work(row, *others)
        if key not in self._recordings:
            self._recordings[key] = self._record(work, row, others)
        recording = self._recordings[key]
        for mine, given in zip(recording.inputs, (*row.tensors, *others), strict=True):
            mine.copy_(given)
        recording.graph.replay()
        return recording.output.clone()

    def _record(self, work: Callable[..., Tensor], row: Row, others: Sequence[Tensor]) -> Recording:
        row = row.with_tensors(tensor.clone() for tensor in row.tensors)
        others = [tensor.clone() for tensor in others]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = work(row, *others)
        return Recording(graph, [*row.tensors, *others], output)


def grid(
    token_budget: int, max_tokens: int, texts: int = 1, training_tokens: float = math.inf
) -> Grid:
    """The shapes of rows for a budget of tokens a row.

    To record a shape takes as long as several rows of a small backbone. So a short training has
    fewer shapes, and fills its rows up by more.

    Args:
        max_tokens: of an example, at most.
        texts: that an example is.
        training_tokens: of all epochs.
    """
    steps = math.ceil(SERVED * token_budget**2 / training_tokens / STEP)
    step = STEP * max(min(steps, token_budget // COARSEST // STEP), 1)
    return Grid(step, max(token_budget // MEAN, 1) * texts, max(max_tokens, step))


def unfit(model: PeftModel) -> str | None:
    """Why a model's passes cannot be recorded; None if they can."""
    kernel = model.config._attn_implementation
    layers = decoder_layers(model)
    if next(model.parameters()).device.type != "cuda":
        return "there is no GPU"
    if kernel not in (VARLEN, FLEX, FLASH4):
        return f"its attention, {kernel}, is told each row's lengths by the host"
    if any(layer.random for layer in layers):
        return "it has dropout"
    return "its base is in shards" if sharded(model) else None
