"""Gates on what makes passes fast: it computes what plain passes do, but for rounding."""

import torch

from stages.training.gates.gate import Finding, Phase
from stages.training.gates.probe import SAME

COMPILED, RECORDED = Phase(), Phase()  # on (the largest relative difference, dtype)
FP8 = Phase()  # on the relative difference of the gradient
# An error as large as the gradient leaves nothing of it, and none at all says that no product was
# in FP8. Real backbones were between 0.22 and 0.41 off, Llama-3.1-8B of random weights 0.82.
ROUNDED = 1.0


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


@FP8.gate(
    "fp8",
    "with products in FP8 the gradient points elsewhere than in bfloat16, or is the same",
    "numbers of this backbone that eight bits do not hold, or products that were not in FP8: set "
    "train.fp8 to false",
)
def fp8(difference: float) -> Finding:
    """Products in FP8 give a gradient that is that of bfloat16, but for their rounding."""
    passed = 0 < difference < ROUNDED
    return Finding(passed, f"{difference:.2g}", f"above 0 and below {ROUNDED:g}")


def _same(difference: float, dtype: torch.dtype) -> Finding:
    limit = 3 * SAME[dtype]
    return Finding(difference < limit, f"{difference:.2g}", f"below {limit:g}")
