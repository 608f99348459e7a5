"""Attention over packed rows: each example attends to itself alone.

transformers builds a (tokens, tokens) mask for a packed row and computes all of it; here the cost
is the sum of the examples' squares. There are three implementations: `packed`, plain and right
everywhere; `packed_varlen`, FlashAttention 2; and `packed_flex` for soft-capped logits (Gemma 2),
and attention sinks (gpt-oss), which FlashAttention lacks. Sliding windows are kept. Tests compare
them with transformers' eager attention.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel

PACKED = "packed"
VARLEN = "packed_varlen"
FLEX = "packed_flex"
FLASH4 = "packed_flash4"  # see flash4.py
SINKS = ("sinks", "attention_sink_bias")  # what families call them
# PyTorch 2.11 lets queries share keys without being told.
GROUPED = "enable_gqa" in inspect.signature(varlen_attn).parameters


# FlexAttention takes rows below 128 tokens to its kernel for decoding, which lacks such blocks.
ANY_LENGTH = {"FORCE_USE_FLEX_ATTENTION": True}
# Of FlexAttention's kernels for heads of 256 values on an H100, where they are 1.6 times as fast as
# the defaults (bench/NOTES.md).
HOPPER_256 = {
    "fwd_BLOCK_M": 128,
    "fwd_BLOCK_N": 64,
    "fwd_num_warps": 8,
    "fwd_num_stages": 2,
    "bwd_BLOCK_M1": 32,
    "bwd_BLOCK_N1": 64,
    "bwd_BLOCK_M2": 64,
    "bwd_BLOCK_N2": 32,
    "bwd_num_warps": 8,
    "bwd_num_stages": 2,
}


@dataclass(frozen=True, eq=False)  # no tuple: the compiler would fit its code to each one's length
class Segments:
    """Where the examples of a row lie.

    Attributes:
        lengths: tokens of each example.
        bounds: (examples + 1,) int32, their cumulative sum from 0, on the row's device; at the
            end there may be examples of no tokens.
        longest: tokens that no example has more of.
        masks: what each token sees, by sliding window (None: all before it), for `packed_flex`;
            and the options of its kernels.
    """

    lengths: tuple[int, ...]
    bounds: Tensor
    longest: int
    masks: Mapping[int | None, BlockMask]
    options: Mapping[str, int] | None


def segments(
    lengths: tuple[int, ...], longest: int, bounds: Tensor, config: PreTrainedConfig
) -> Segments:
    """The segments of a row, as the model's attention reads them."""
    masks, options = {}, None
    if config._attn_implementation == FLEX:
        window = getattr(config.get_text_config(), "sliding_window", None)
        masks = {w: _block_mask(bounds, sum(lengths), w) for w in {None, binding(window, longest)}}
        wide = head_size(config) == 256 and hopper(bounds.device)
        options = ANY_LENGTH | (HOPPER_256 if wide else {})
    return Segments(lengths, bounds, longest, masks, options)


def soft_capped(config: PreTrainedConfig) -> bool:
    """Whether the architecture caps its attention logits (Gemma 2)."""
    return getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None


def sinks(model: nn.Module) -> bool:
    """Whether a model's attention has learned sinks (gpt-oss), a share of it that reads nothing."""
    return any(name.endswith(SINKS) for name, _ in model.named_parameters())


def only_flex(model: PreTrainedModel) -> bool:
    """Whether FlashAttention leaves out something of a model's attention."""
    return soft_capped(model.config) or sinks(model)


def fastest(model: PreTrainedModel, dtype: torch.dtype, device: torch.device) -> str:
    """The fastest implementation that is exact for a model, without compiling."""
    half = dtype in (torch.bfloat16, torch.float16)
    flash = half and ampere(device) and head_size(model.config) <= 256 and not only_flex(model)
    return VARLEN if flash else PACKED


def ampere(device: torch.device) -> bool:
    """Whether the device is a GPU of the generation of 2020 or later, which both kernels need."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def hopper(device: torch.device) -> bool:
    """Whether the device is a GPU of the H100's generation."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) == (9, 0)


def head_size(config: PreTrainedConfig) -> int:
    """How many values a query has, at most; layers may differ (Gemma 4)."""
    text = config.get_text_config()
    layers = text.per_layer_config if text.is_heterogeneous else [text]
    return max(
        getattr(layer, "qk_head_dim", None)
        or getattr(layer, "head_dim", None)
        or layer.hidden_size // layer.num_attention_heads
        for layer in layers
    )


@torch.compiler.disable
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
    s_aux: Tensor | None = None,
    segments: Segments | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Causal attention within each segment, in the signature of transformers' interface.

    Args:
        query: (1, heads, tokens, head size); key and value may have fewer heads (grouped queries).
        s_aux: (heads,) sinks, logits of a key that gives nothing.
        segments: the whole row is one if None.

    Returns:
        (1, tokens, heads, head size), and no attention weights.
    """
    lengths = segments.lengths if segments else (query.shape[2],)
    window = binding(sliding_window, max(lengths))
    queries, keys, values = (tensor.split(lengths, dim=2) for tensor in (query, key, value))
    parts = zip(queries, keys, values, strict=True)
    if softcap is None and s_aux is None:
        out = [_attend(q, k, v, scaling, window) for q, k, v in parts]
    else:
        out = [_attend_plainly(q, k, v, scaling, window, softcap, s_aux) for q, k, v in parts]
    return torch.cat(out, dim=2).transpose(1, 2).contiguous(), None


def varlen_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    scaling: float,
    sliding_window: int | None = None,
    segments: Segments | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """`packed_attention` by PyTorch's varlen kernel (Dao 2023); no soft-capping.

    The kernel wants values as wide as keys; narrower ones, as DeepSeek's, are padded.
    """
    if segments is None:
        return packed_attention(
            module, query, key, value, None, scaling, sliding_window=sliding_window, **kwargs
        )
    window, width = binding(sliding_window, segments.longest), value.shape[-1]
    value = F.pad(value, (0, key.shape[-1] - width))
    out = varlen_attn(
        *(tensor[0].transpose(0, 1) for tensor in (query, key, value)),
        segments.bounds,
        segments.bounds,
        segments.longest,
        segments.longest,
        scale=scaling,
        window_size=(window - 1 if window else -1, 0),
        **({"enable_gqa": key.shape[1] != query.shape[1]} if GROUPED else {}),
    )
    return out[None, ..., :width], None


def flex(
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
    """`packed_attention` by PyTorch's FlexAttention, which must be compiled to be fast."""
    if segments is None:
        return packed_attention(
            module, query, key, value, None, scaling, 0.0, sliding_window, softcap, s_aux, **kwargs
        )

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        if softcap is None:
            return score
        return softcap * (2 * torch.sigmoid(score * (2 / softcap)) - 1)  # tanh, but fast on a GPU

    out, lse = flex_attention(
        query,
        key,
        value,
        score_mod=capped,
        block_mask=segments.masks[binding(sliding_window, segments.longest)],
        scale=scaling,
        enable_gqa=key.shape[1] != query.shape[1],
        kernel_options=segments.options,
        return_lse=True,
    )
    if s_aux is not None:  # what the sink takes of the whole
        out = out * torch.sigmoid(lse - s_aux[:, None])[..., None].to(out.dtype)
    return out.transpose(1, 2).contiguous(), None


def binding(window: int | None, longest: int) -> int | None:
    """A sliding window if some example is longer, else None."""
    return window if window and longest > window else None


def _attend(q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int | None) -> Tensor:
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


def _attend_plainly(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scaling: float,
    window: int | None,
    softcap: float | None,
    sink: Tensor | None,
) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = q @ k.transpose(2, 3) * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~_visible(q, window), -torch.inf)
    if sink is not None:
        column = sink.to(scores.dtype)[:, None, None].expand(len(scores), -1, scores.shape[2], 1)
        scores = torch.cat([scores, column], dim=-1)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    return weights[..., : k.shape[2]] @ v


def _visible(q: Tensor, window: int | None) -> Tensor:
    """(tokens, tokens): itself and what stands before it, at most `window` tokens in all."""
    place = torch.arange(q.shape[2], device=q.device)
    back = place[:, None] - place
    return (back >= 0) & (back < (window or len(place)))


def _block_mask(bounds: Tensor, tokens: int, window: int | None) -> BlockMask:
    places = torch.arange(tokens, device=bounds.device)
    example = torch.bucketize(places, bounds[1:], right=True)

    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = (query >= key) & (example[query] == example[key])
        return seen if window is None else seen & (query - key < window)

    return create_block_mask(visible, None, None, tokens, tokens, device=bounds.device)


AttentionInterface.register(PACKED, packed_attention)
AttentionInterface.register(VARLEN, varlen_attention)
AttentionInterface.register(FLEX, flex)
