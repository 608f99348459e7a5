"""The last layer, computed for the tokens that the head reads and no others.

Nothing looks at its other outputs. Keys and values are needed of every token; queries, the output's
projection and the MLP, more than 90 % of a layer, of one token an example. It is written as Llama's
and Gemma's layers are; whether it serves another architecture, the run's gate decides.
"""

import torch
from torch import Tensor, nn

from stages.model.attention import Segments


def last_layer(
    layer: nn.Module,
    hidden: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    segments: Segments | None = None,
    **_: object,
) -> Tensor:
    """A decoder layer's output at each example's last token.

    Args:
        hidden: (1, tokens, hidden size).
        position_embeddings: cosines and sines, each (1, tokens, head size).
        segments: the whole row is one example if None.

    Returns:
        (1, examples, hidden size).
    """
    bounds = segments.bounds if segments else torch.tensor([0, hidden.shape[1]]).to(hidden.device)
    normed = layer.input_layernorm(hidden)
    attended = _attend(layer.self_attn, normed, position_embeddings, bounds)
    residual = hidden[:, bounds[1:] - 1]
    if not hasattr(layer, "pre_feedforward_layernorm"):
        residual = residual + attended
        return residual + layer.mlp(layer.post_attention_layernorm(residual))
    residual = residual + layer.post_attention_layernorm(attended)  # Gemma norms outputs, too
    fed = layer.mlp(layer.pre_feedforward_layernorm(residual))
    return residual + layer.post_feedforward_layernorm(fed)


def _attend(
    attention: nn.Module, x: Tensor, position_embeddings: tuple[Tensor, Tensor], bounds: Tensor
) -> Tensor:
    last = bounds[1:] - 1
    size = attention.head_dim
    q = attention.q_proj(x[:, last]).view(len(last), -1, size)
    k = attention.k_proj(x).view(x.shape[1], -1, size)
    v = attention.v_proj(x).view(x.shape[1], -1, size)
    if hasattr(attention, "q_norm"):  # Gemma 3
        q, k = attention.q_norm(q), attention.k_norm(k)
    cos, sin = (part[0, :, None] for part in position_embeddings)
    q, k = _rotate(q, cos[last], sin[last]), _rotate(k, cos, sin)

    q = q.view(len(last), k.shape[1], -1, size)  # the queries that share a key
    scores = torch.einsum("ekgd,tkd->kget", q, k) * attention.scaling
    cap = getattr(attention, "attn_logit_softcapping", None)
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    window = getattr(attention, "sliding_window", None)
    scores = scores.masked_fill(~_visible(bounds, x.shape[1], window), -torch.inf)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(x.dtype)
    return attention.o_proj(torch.einsum("kget,tkd->ekgd", weights, v).reshape(1, len(last), -1))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021), halves rotated as in these architectures."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _visible(bounds: Tensor, tokens: int, window: int | None) -> Tensor:
    """(examples, tokens): what the last token of each example sees; itself, of one of no tokens."""
    place = torch.arange(tokens, device=bounds.device)
    last = bounds[1:, None] - 1
    seen = (place >= bounds[:-1, None].minimum(last)) & (place <= last)
    return seen if window is None else seen & (last - place < window)
