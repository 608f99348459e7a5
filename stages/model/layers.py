"""The backbone's layers: what each keeps for the backward pass, and whether it is compiled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from stages.model import stock
from stages.model.attention import FLASH4, FLEX, PACKED, VARLEN, Segments, ampere, only_flex
from stages.model.last_layer import last_layer


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The backbone's layers, first to last, of a model with or without an adapter."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if not hasattr(base, "found_layers"):
        base.found_layers = (stock.decoder_layers(base),)  # in a tuple: no second name for them
    return base.found_layers[0]


def shorten_last_layer(base: PreTrainedModel, short: bool) -> None:
    """Let the last layer return each example's last token: (1, examples, hidden size).

    Args:
        short: whether it computes these alone; else it computes all, as it came.
    """
    layer = decoder_layers(base)[-1]
    packed = base.config._attn_implementation in (PACKED, VARLEN, FLASH4)
    own = partial(last_layer, layer) if packed and short else _last_tokens_of(layer.forward)
    layer.forward = own


def _last_tokens_of(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def last_tokens(
        hidden: Tensor, *args: object, segments: Segments | None = None, **kwargs: object
    ) -> Tensor:
        out = forward(hidden, *args, segments=segments, **kwargs)
        return out[:, segments.bounds[1:] - 1] if segments else out[:, -1:]

    return last_tokens


def let_recompute(layer: nn.Module) -> None:
    """Let a layer keep only its input, and recompute the rest, where its `recomputed` is set."""
    layer.recomputed = True  # until it is known what the memory allows
    layer.random = any(isinstance(m, nn.Dropout) and m.p > 0 for m in layer.modules())
    layer.plain_forward = layer.inner_forward = layer.forward

    def forward(*args: object, **kwargs: object) -> Tensor:
        if layer.recomputed and torch.is_grad_enabled():
            how = {"use_reentrant": False, "preserve_rng_state": layer.random}
            return checkpoint(layer.inner_forward, *args, **how, **kwargs)
        return layer.inner_forward(*args, **kwargs)

    layer.forward = forward


def recompute(model: PeftModel, count: int) -> None:
    """Let the first `count` layers recompute: theirs are the activations kept longest."""
    for number, layer in enumerate(decoder_layers(model)):
        layer.recomputed = number < count


def recompute_all(model: PeftModel) -> bool:
    """Let every layer recompute; returns whether any did not."""
    more = not all(layer.recomputed for layer in decoder_layers(model))
    recompute(model, len(decoder_layers(model)))
    return more


@contextmanager
def all_recomputed(model: PeftModel) -> Iterator[None]:
    """Let every layer recompute, for a while."""
    layers = decoder_layers(model)
    before = [layer.recomputed for layer in layers]
    recompute_all(model)
    try:
        yield
    finally:
        for layer, recomputed in zip(layers, before, strict=True):
            layer.recomputed = recomputed


def compile_layers(model: PeftModel, backend: str = "inductor") -> None:
    """Compile each layer: once for all of a kind, and for rows of any length."""
    torch._dynamo.config.specialize_float = True  # a model's numbers never change
    torch._dynamo.config.recompile_limit = 32  # kinds of layer, with and without gradient
    for layer in decoder_layers(model)[:-1]:  # the last one has little to compute
        layer.inner_forward = torch.compile(layer.plain_forward, dynamic=True, backend=backend)
    if model.config._attn_implementation == PACKED and only_flex(model.get_base_model()):
        device = next(model.parameters()).device
        model.config._attn_implementation = FLEX if ampere(device) else PACKED


def plain_layers(model: PeftModel) -> None:
    """Undo `compile_layers`."""
    for layer in decoder_layers(model):
        layer.inner_forward = layer.plain_forward
    if model.config._attn_implementation == FLEX:
        model.config._attn_implementation = PACKED
