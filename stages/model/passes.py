"""Forward and backward passes over packed rows: the mean loss of a batch, and predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from stages.config.params import Params
from stages.model import packed, plain
from stages.model.build import compute_dtype
from stages.model.graphs import Recorder
from stages.model.objective import Objective
from stages.model.packing import Row, pack, send
from stages.model.prompts import answer_ids

WayName = Literal["fast", "plain", "alone"]
LONGER = 2  # a layer's intermediate results are less than half of what a few layers keep


@dataclass(frozen=True)
class Compute:
    """How passes are computed.

    Attributes:
        dtype: of the base and its products.
        token_budget: tokens of one packed row.
        recorder: what runs the passes, if they are recorded.
        way: how examples go through the model: packed into rows (fast), side by side with padding
            (plain), or only beside others of the same length (alone).
    """

    objective: Objective
    device: torch.device
    dtype: torch.dtype
    token_budget: int
    recorder: Recorder | None = None
    way: WayName = "fast"

    @property
    def packed(self) -> bool:
        """Whether examples are packed into rows."""
        return self.way == "fast"

    def rows(self, ids: Sequence[Sequence[int]]) -> Sequence[Row | plain.Batch]:
        """Examples packed into rows; longer ones where nothing is kept for a backward pass."""
        budget = self.token_budget * (1 if torch.is_grad_enabled() else LONGER)
        if not self.packed:
            return plain.batches(ids, budget, self.way == "plain", self.objective.texts)
        grid = self.recorder.grid if self.recorder else None
        return pack(ids, budget, grid, self.objective.texts)

    def examples(self, row: Row | plain.Batch) -> list[int]:
        """Which examples a row holds."""
        texts = self.objective.texts
        return [i // texts for i in row.index[::texts]]

    def logits(self, model: PeftModel, row: Row | plain.Batch) -> Tensor:
        """What the head says at each example's last token: (examples, classes or vocabulary)."""
        return packed.logits(model, row) if isinstance(row, Row) else plain.logits(model, row)

    def run(self, work: Callable[..., Tensor], row: Row | plain.Batch, *others: Tensor) -> Tensor:
        """A pass over a row, on the device."""
        there, beside = row.to(self.device), [send(tensor, self.device) for tensor in others]
        if self.recorder and isinstance(there, Row):
            return self.recorder(work, there, *beside)
        return work(there, *beside)


def compute_for(params: Params, tokenizer: PreTrainedTokenizerBase, classes: int = 3) -> Compute:
    """How the params ask for it, on this process's GPU if there is one."""
    alone, answers = params.train.objective == "reward", None
    if params.train.objective == "sft":
        answers = answer_ids(tokenizer, params.prompt.chat, classes)
    cpu = not torch.cuda.is_available()
    device = torch.device("cpu") if cpu else torch.device("cuda", torch.cuda.current_device())
    return Compute(
        Objective(answers, classes, alone),
        device,
        compute_dtype(params.train.dtype, device),
        params.budget.token_budget,
    )


def accumulate(
    model: nn.Module,
    ids: Sequence[Sequence[int]],
    targets: np.ndarray,
    compute: Compute,
    backward: Callable[[Tensor], None],
    weights: np.ndarray | None = None,
    offsets: np.ndarray | None = None,
) -> Tensor:
    """Add the gradient of the mean loss over a batch, whatever rows it is packed into.

    Args:
        ids: of each text; an example is as many neighbours as the objective says.
        targets: (examples, classes), the probabilities that the votes say.
        backward: called with each row's part of the loss.
        weights: (examples,), the share of each one's loss in the mean; equal ones if None.
        offsets: (examples, classes), added to the logits of A, B and tie.

    Returns:
        The mean loss, detached.
    """

    def part(row: Row | plain.Batch, wanted: Tensor, shares: Tensor, added: Tensor) -> Tensor:
        loss = compute.objective.loss(compute.logits(model, row), wanted, added) @ shares
        backward(loss)
        return loss.detach()

    if compute.recorder:
        compute.recorder.hold_gradients()
    if weights is None:
        weights = np.full(len(targets), 1 / len(targets))
    if offsets is None:
        offsets = np.zeros_like(targets)
    total = torch.zeros((), device=compute.device)
    for row in compute.rows(ids):
        # Rows are filled up to their places, with what counts nothing.
        index, places = compute.examples(row), row.places // compute.objective.texts
        filled = (_filled(each[index], places) for each in (targets, weights, offsets))
        total += compute.run(part, row, *filled)
    return total


def _filled(values: np.ndarray, places: int) -> Tensor:
    filled = torch.zeros(places, *values.shape[1:])
    filled[: len(values)] = torch.from_numpy(values)
    return filled


@torch.inference_mode()
def class_logits(
    model: nn.Module, ids: Sequence[Sequence[int]], compute: Compute, progress: str | None = None
) -> Tensor:
    """The logits of A, B and tie of each example, in the order given: (examples, classes), float32.

    Args:
        ids: of each text; an example is as many neighbours as the objective says.
        progress: what a progress bar is to call it; no bar if None.
    """

    def of(row: Row | plain.Batch) -> Tensor:
        return compute.objective.class_logits(compute.logits(model, row))

    index, found = [], []  # the GPU is waited for once, at the end
    for row in tqdm(compute.rows(ids), desc=progress, unit="row", disable=progress is None):
        index += (examples := compute.examples(row))
        found.append(compute.run(of, row)[: len(examples)])
    out = torch.empty(len(index), compute.objective.classes)
    out[index] = torch.cat(found).cpu()
    return out
