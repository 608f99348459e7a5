"""Attention over packed rows: each example attends to itself alone, and no mask is built.

transformers builds a (tokens, tokens) mask for a packed row and computes all of it. Here the row is
cut at the examples' bounds, so that the cost is the sum of their squares. Soft-capping and sliding
windows are kept; tests compare every architecture with transformers' eager attention.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

PACKED = "packed"


class Segments(NamedTuple):
    """Where the examples of a row lie.

    Attributes:
        lengths: tokens of each example.
        bounds: (examples + 1,) int32, their cumulative sum from 0, on the row's device.
    """

    lengths: tuple[int, ...]
    bounds: Tensor


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    segments: Segments | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Causal attention within each segment, in the signature of transformers' interface.

    Args:
        query: (1, heads, tokens, head size); key and value may have fewer heads (grouped queries).
        segments: the whole row is one if None.

    Returns:
        (1, tokens, heads, head size), and no attention weights.
    """
    lengths = segments.lengths if segments else (query.shape[2],)
    window = sliding_window if sliding_window and max(lengths) > sliding_window else None
    if segments and softcap is None and _has_varlen(query):
        return _varlen(query, key, value, segments, scaling, window), None
    parts = (tensor.split(lengths, dim=2) for tensor in (query, key, value))
    attend = _attend if softcap is None else _attend_capped
    out = [attend(*qkv, scaling, window, softcap) for qkv in zip(*parts, strict=True)]
    return torch.cat(out, dim=2).transpose(1, 2).contiguous(), None


def _attend(q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int | None, _: None) -> Tensor:
    narrow = window is not None and q.shape[2] > window
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=_visible(q, window) if narrow else None,
        is_causal=not narrow,
        scale=scaling,
        enable_gqa=True,
    )


def _attend_capped(
    q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int | None, softcap: float
) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = torch.tanh(q @ k.transpose(2, 3) * (scaling / softcap)) * softcap
    scores = scores.masked_fill(~_visible(q, window), -torch.inf)
    return scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype) @ v


def _visible(q: Tensor, window: int | None) -> Tensor:
    """(tokens, tokens): itself and what stands before it, at most `window` tokens in all."""
    place = torch.arange(q.shape[2], device=q.device)
    back = place[:, None] - place
    return (back >= 0) & (back < (window or len(place)))


def _has_varlen(query: Tensor) -> bool:
    """PyTorch's varlen kernel is FlashAttention 2: half precision on Ampere and later."""
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
        and query.shape[-1] <= 256
    )


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    scaling: float,
    window: int | None,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # not in every build of PyTorch

    longest = max(segments.lengths)
    out = varlen_attn(
        *(tensor[0].transpose(0, 1) for tensor in (query, key, value)),
        segments.bounds,
        segments.bounds,
        longest,
        longest,
        scale=scaling,
        window_size=(window - 1 if window else -1, 0),
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return out[None]


AttentionInterface.register(PACKED, packed_attention)
