"""Forward and backward passes over packed rows: the mean loss of a batch, and predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from stages.params import Params
from stages.prompts import answer_ids
from stages.train.model import compute_dtype, logits
from stages.train.objective import Objective
from stages.train.packing import pack, send


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


def compute_for(params: Params, tokenizer: PreTrainedTokenizerBase) -> Compute:
    """How the params ask for it, on this process's GPU if there is one."""
    cpu = not torch.cuda.is_available()
    device = torch.device("cpu") if cpu else torch.device("cuda", torch.cuda.current_device())
    return Compute(
        Objective(answer_ids(tokenizer) if params.train.objective == "sft" else None),
        device,
        compute_dtype(params.train.dtype, device),
        params.budget.token_budget,
    )


def accumulate(
    model: nn.Module,
    ids: Sequence[Sequence[int]],
    labels: Sequence[int],
    compute: Compute,
    backward: Callable[[Tensor], None],
    batch_size: float | None = None,
) -> Tensor:
    """Add the gradient of the mean loss over a batch, whatever rows it is packed into.

    Args:
        backward: called with each row's part of the loss.
        batch_size: what the sum of losses is divided by; the number of examples given if None.

    Returns:
        The mean loss, detached.
    """
    targets = compute.objective.targets(labels)
    total = torch.zeros((), device=compute.device)
    for row in pack(ids, compute.token_budget):
        row = row.to(compute.device)
        losses = compute.objective.loss(
            logits(model, row), send(targets[row.index], compute.device)
        )
        loss = losses.sum() / (batch_size or len(ids))
        backward(loss)
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
    index, found = [], []  # the GPU is waited for once, at the end
    rows = pack(ids, compute.token_budget)
    for row in tqdm(rows, desc=progress, unit="row", disable=progress is None):
        row = row.to(compute.device)
        index += row.index
        found.append(compute.objective.class_logits(logits(model, row)))
    out = torch.empty(len(ids), 3)
    out[index] = torch.cat(found).cpu()
    return out
