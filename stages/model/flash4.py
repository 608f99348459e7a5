"""FlashAttention 4 over packed rows, where it was asked for and its package is installed.

On an H100 it is faster than FlashAttention 2 (bench/THROUGHPUT.md), and it knows soft-capping and
attention sinks. It is a beta of which this project pins one release, and it compiles its kernels at
the start of each run: so it is for long runs, and nobody gets it unasked.
"""

from importlib.util import find_spec

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from stages.config.errors import UserError
from stages.model.attention import FLASH4, Segments, binding, head_size, hopper, packed_attention

INSTALL = (
    "pip install flash-attn-4==4.0.0b36 'nvidia-cutlass-dsl[cu13]==4.8.1' quack-kernels==0.6.5"
)


def serves(base: PreTrainedModel, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether it can compute a model's attention here."""
    return _here(dtype, device) and head_size(base.config) <= 256


def require(dtype: torch.dtype, device: torch.device) -> None:
    """Refuse to train without it, where train.attention asks for it.

    Raises:
        UserError: it cannot compute here.
    """
    if not _here(dtype, device):
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
        package = "is" if _installed() else "is not"
        raise UserError(
            "train.attention is flash4, which needs a GPU of the H100's generation, bfloat16 "
            f"or float16, and the package flash-attn-4; found {where}, {str(dtype).split('.')[1]}, "
            f"and the package {package} installed: set it to auto, or, on such a GPU, {INSTALL}"
        )


def flash4_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    scaling: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    segments: Segments | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """`packed_attention` by FlashAttention 4."""
    if segments is None:
        return packed_attention(
            module, query, key, value, None, scaling, 0.0, sliding_window, softcap, s_aux, **kwargs
        )
    tensors = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    window = binding(sliding_window, segments.longest)
    return _varlen(tensors, segments, scaling, window, softcap, s_aux)[None], None


@torch.compiler.disable
def _varlen(
    tensors: list[Tensor],
    segments: Segments,
    scaling: float,
    window: int | None,
    softcap: float | None,
    sink: Tensor | None,
) -> Tensor:
    """The output, of queries, keys and values: all (tokens, heads, size)."""
    from flash_attn.cute import flash_attn_varlen_func

    return flash_attn_varlen_func(
        *tensors,
        cu_seqlens_q=segments.bounds,
        cu_seqlens_k=segments.bounds,
        max_seqlen_q=segments.longest,
        max_seqlen_k=segments.longest,
        softmax_scale=scaling,
        causal=True,
        window_size=(window - 1, 0) if window else (None, None),
        learnable_sink=sink,
        softcap=softcap or 0.0,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )[0]


def _here(dtype: torch.dtype, device: torch.device) -> bool:
    return hopper(device) and dtype != torch.float32 and _installed()


def _installed() -> bool:
    return bool(find_spec("flash_attn") and find_spec("flash_attn.cute"))


AttentionInterface.register(FLASH4, flash4_attention)
