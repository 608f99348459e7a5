"""Forward and backward passes over packed rows: the mean loss of a batch, and predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from stages.train.examples import MIRRORED, Examples
from stages.train.model import logits
from stages.train.objective import Objective
from stages.train.packing import pack


@dataclass(frozen=True)
class Compute:
    """How passes are computed.

    Attributes:
        dtype: of the base and its products.
        token_budget: tokens of one packed row.
    """

    objective: Objective
    device: torch.device
    dtype: torch.dtype
    token_budget: int


def accumulate(
    model: nn.Module,
    ids: Sequence[Sequence[int]],
    labels: Sequence[int],
    compute: Compute,
    backward: Callable[[Tensor, bool], None],
    batch_size: float | None = None,
) -> Tensor:
    """Add the gradient of the mean loss over a batch, whatever rows it is packed into.

    Args:
        backward: called with each row's part of the loss, and whether it is the last row.
        batch_size: what the sum of losses is divided by; the number of examples given if None.

    Returns:
        The mean loss, detached.
    """
    labels = torch.tensor(labels, device=compute.device)
    rows = pack(ids, compute.token_budget)
    total = torch.zeros((), device=compute.device)
    for number, row in enumerate(rows, start=1):
        row = row.to(compute.device)
        losses = compute.objective.loss(logits(model, row, compute.dtype), labels[row.index])
        loss = losses.sum() / (batch_size or len(ids))
        backward(loss, number == len(rows))
        total += loss.detach()
    return total


@torch.inference_mode()
def class_logits(
    model: nn.Module, ids: Sequence[Sequence[int]], compute: Compute, progress: str | None = None
) -> Tensor:
    """The logits of A, B and tie of each example, in the order given: (examples, 3), float32.

    Args:
        progress: what a progress bar is to call it; no bar if None.
    """
    out = torch.empty(len(ids), 3)
    rows = pack(ids, compute.token_budget)
    for row in tqdm(rows, desc=progress, unit="row", disable=progress is None):
        row = row.to(compute.device)
        out[row.index] = compute.objective.class_logits(logits(model, row, compute.dtype)).cpu()
    return out


def predict(model: nn.Module, examples: Examples, compute: Compute, swapped: bool) -> np.ndarray:
    """Logits of every example with its answers shown in one order: (examples, 3), float32.

    Columns are always the file's own A, B and tie, also when they were shown exchanged.
    """
    model.eval()
    ids = [examples.encode(i, swapped).ids for i in range(len(examples))]
    out = class_logits(model, ids, compute, progress="predict B/A" if swapped else "predict A/B")
    return (out[:, list(MIRRORED)] if swapped else out).numpy()
