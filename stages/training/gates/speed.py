"""Gates on what makes passes fast: it computes what plain passes do, but for rounding."""

import torch

from stages.training.gates.gate import Finding, Phase
from stages.training.gates.probe import SAME

COMPILED, RECORDED = Phase(), Phase()  # on (the largest relative difference, dtype)


@COMPILED.gate(
    "compiled",
    "compiled layers compute something else than plain ones",
    "a fault of PyTorch's compiler for this GPU: set train.compile to false",
)
def compiled(difference: float, dtype: torch.dtype) -> Finding:
    """Compiled layers give the logits and the gradient of plain ones."""
    return _same(difference, dtype)


@RECORDED.gate(
    "recorded",
    "recorded passes compute something else than plain ones",
    "a fault of CUDA graphs for this backbone: set train.cuda_graphs to false",
)
def recorded(difference: float, dtype: torch.dtype) -> Finding:
    """Recorded passes give the logits and the gradient of plain ones."""
    return _same(difference, dtype)


def _same(difference: float, dtype: torch.dtype) -> Finding:
    limit = 3 * SAME[dtype]
    return Finding(difference < limit, f"{difference:.2g}", f"below {limit:g}")
