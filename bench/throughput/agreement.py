"""Do both paths compute the same? One batch, the same weights, the same adapter.

In float32 the gradients differ by some 1e-7. In bfloat16 those of a deep backbone are off by more
than 1e-2 in the stock recipe itself (bench/NOTES.md), so there the reference is that recipe in
float32, on the very same quantised weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from bitsandbytes.nn import Linear4bit
from torch import Tensor
from transformers import PreTrainedModel

from bench.throughput.lengths import Batch
from bench.throughput.project import Project
from bench.throughput.stock import Stock
from stages.training.gates.probe import probing

LIMIT = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 1e-2}  # relative errors
ROUNDING = 2  # how far off the reference the project may be, in the stock recipe's own errors


@dataclass(frozen=True)
class Outcome:
    """The mean loss of a batch, and its gradient by trained parameter, float32 on the CPU."""

    loss: float
    gradients: Mapping[str, Tensor]


def outcome(path: Stock | Project, batch: Batch) -> Outcome:
    """Loss and gradients at an adapter and head of small random values, the same for each path."""
    path.model.train()
    path.model.zero_grad(set_to_none=True)
    with probing(path.model):
        loss = path.accumulate(batch).item()
        trained = ((n, p) for n, p in path.model.named_parameters() if p.requires_grad)
        return Outcome(loss, {name: p.grad.float().cpu() for name, p in trained})


def in_float32(base: PreTrainedModel) -> PreTrainedModel:
    """Let a quantised base compute in float32, with the weights that it has."""
    for module in base.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype = module.weight.quant_state.dtype = torch.float32
    for tensor in (*base.parameters(), *base.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.float()
    return base


def compare(
    project: Outcome, stock: Outcome, reference: Outcome | None, dtype: torch.dtype
) -> dict[str, float | bool | dict]:
    """Relative errors of the loss, and of all gradients together.

    Args:
        reference: the same in float32, if the paths computed in less.

    Returns:
        `loss` and `gradients`, the project's errors against the stock recipe; `limit`; the errors
        of both against the reference, if any; and `same`, whether each error is below the limit
        or the project's error against the reference at most `ROUNDING` times the stock recipe's.
    """
    errors = _errors(project, stock)
    found: dict[str, float | dict] = {**errors, "limit": LIMIT[dtype]}
    same = {kind: error <= LIMIT[dtype] for kind, error in errors.items()}
    if reference:
        off = {"project": _errors(project, reference), "stock": _errors(stock, reference)}
        found["off_float32"] = off
        for kind in same:
            same[kind] |= off["project"][kind] <= ROUNDING * off["stock"][kind]
    return {**found, "same": all(same.values())}


def _errors(found: Outcome, reference: Outcome) -> dict[str, float]:
    names = reference.gradients
    pair = [torch.cat([o.gradients[n].flatten() for n in names]) for o in (found, reference)]
    return {
        "loss": abs(found.loss - reference.loss) / abs(reference.loss),
        "gradients": ((pair[0] - pair[1]).norm() / pair[1].norm()).item(),
    }
