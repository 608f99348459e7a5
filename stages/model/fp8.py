"""The frozen base's matrix products in FP8, in a training's passes alone, where it was asked for.

An H100 computes them nearly twice as fast as those in bfloat16 (bench/THROUGHPUT.md), and they are
most of a large backbone's time. Both factors are rounded to three bits (e4m3: Micikevicius et al.
2022), each row scaled by its largest number. What the adapter adds, the gates on logits and every
prediction stay in bfloat16.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.config.errors import UserError
from stages.model import sharding
from stages.model.attention import hopper

ROUNDED = torch.float8_e4m3fn
LARGEST = torch.finfo(ROUNDED).max
SMALLEST = 1e-12  # that a row's largest number is taken for: a row may be all zeros


@dataclass(frozen=True, eq=False)
class Weight:
    """A base's weight in FP8, once for each direction, since scales are a row's.

    Attributes:
        forward: (outputs, inputs), and a scale for each output.
        backward: (inputs, outputs), and a scale for each input.
    """

    forward: Tensor
    forward_scale: Tensor
    backward: Tensor
    backward_scale: Tensor


def require(dtype: torch.dtype, device: torch.device) -> None:
    """Refuse to train in FP8 what cannot be.

    Raises:
        UserError: the GPU has no such products, the model's dtype is another, or its base is in
            shards.
    """
    if hopper(device) and dtype == torch.bfloat16 and not sharding.wanted():
        return
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    shards = ", SHARD" if sharding.wanted() else ""
    raise UserError(
        "train.fp8 is true, which needs a GPU of the H100's generation, bfloat16, and no SHARD; "
        f"found {where}, {str(dtype).split('.')[1]}{shards}: set it to false"
    )


def fits(inputs: int, outputs: int) -> bool:
    """Whether the GPU has products of these sizes."""
    return inputs % 16 == 0 and outputs % 16 == 0


def weight(dense: Tensor) -> Weight:
    """A weight of (outputs, inputs) in FP8."""
    return Weight(*rounded(dense), *rounded(dense.T))


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in FP8, one after the other in memory, and the scale of each: (rows, 1), float32."""
    scale = x.abs().amax(-1, keepdim=True).float().clamp(min=SMALLEST) / LARGEST
    return (x.float() / scale).to(ROUNDED).contiguous(), scale


@torch.library.custom_op("backbones::product_fp8", mutates_args=())
def product(
    x: Tensor,
    x_scale: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    low: Tensor | None,
    b: Tensor | None,
    scaling: float,
) -> Tensor:
    """As `lora.product`, of rounded rows and a rounded weight; in bfloat16."""
    # Fast sums were 0.2 to 0.3 % off and exact ones 10 % slower; the rounding is 4 % off.
    settings = {"bias": bias, "out_dtype": torch.bfloat16, "use_fast_accum": True}
    out = torch._scaled_mm(x, weight.T, x_scale, weight_scale.T, **settings)
    return out if low is None or b is None else out.addmm_(low, b.T, alpha=scaling)


@product.register_fake
def _(
    x: Tensor,
    x_scale: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    low: Tensor | None,
    b: Tensor | None,
    scaling: float,
) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], dtype=torch.bfloat16)
