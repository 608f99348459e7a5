"""How gates look at a model: with small random weights in adapter and head, and one pass."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn

from stages.model.examples import Examples
from stages.model.passes import Compute, accumulate, class_logits

SAME = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.03}  # relative, by rounding


@contextmanager
def probing(model: PeftModel) -> Iterator[None]:
    """Small random weights in adapter and head: at their zero start nothing can be seen.

    Twice as large, they made some battles' gradients a matter of rounding (0.34 between bfloat16
    and float32, 0.03 with these; Gemma-3-270M).
    """
    generator = torch.Generator().manual_seed(0)
    with kept(trained(model)):
        for p in trained(model):
            p.data.copy_(torch.randn(p.shape, generator=generator) * 0.01)
        yield
    model.zero_grad(set_to_none=True)


@contextmanager
def kept(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Give parameters their values back at the end."""
    saved = [p.detach().clone() for p in parameters]
    try:
        yield
    finally:
        for p, value in zip(parameters, saved, strict=True):
            p.data.copy_(value)


def trained(model: PeftModel) -> list[nn.Parameter]:
    """The parameters of adapter and head."""
    return [p for p in model.parameters() if p.requires_grad]


def token_ids(examples: Examples) -> list[list[int]]:
    """Those of each example's texts, with its answers in the file's order."""
    return [text for i in range(len(examples)) for text in examples.encode(i).texts]


def logits_of(model: PeftModel, examples: Examples, compute: Compute) -> Tensor:
    """The logits of A, B and tie: (examples, classes)."""
    return class_logits(model, token_ids(examples), compute)


def gradient(
    model: PeftModel, ids: Sequence[Sequence[int]], targets: np.ndarray, compute: Compute
) -> Tensor:
    """The mean loss's gradient over all trained parameters, as one vector on the CPU."""
    model.zero_grad(set_to_none=True)
    accumulate(
        model, ids, targets, compute, lambda loss: loss.backward() if loss.requires_grad else None
    )
    # Not kept on a GPU, whose memory recordings may fill.
    grads = [p.grad.flatten().cpu() for p in trained(model) if p.grad is not None]
    return torch.cat(grads) if grads else torch.zeros(1)


def one_pass(model: PeftModel, examples: Examples, compute: Compute) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient in training mode, for which code is compiled; without dropout."""
    logits = logits_of(model, examples, compute)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    slope = gradient(model, token_ids(examples), examples.targets, compute)
    model.eval()
    return logits, slope


def relative(found: Tensor, reference: Tensor) -> float:
    """‖found − reference‖ / ‖reference‖; infinite where either is undefined."""
    if found.shape != reference.shape:
        return math.inf
    value = ((found - reference).norm() / reference.norm().clamp_min(1e-12)).item()
    return value if math.isfinite(value) else math.inf
