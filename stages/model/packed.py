"""The fast way through a model: rows of packed examples, own attention, adapter and last layer.

`put_on` changes a model as transformers and PEFT have made it, and `take_off` undoes that. Whether
the model still computes what it did, a gate decides on the run's own weights.
"""

from functools import partial

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.config.errors import UserError
from stages.config.params import Train
from stages.model import flash4
from stages.model.attention import FLASH4, fastest, segments, soft_capped
from stages.model.head import HEAD, round_logits, unround_logits
from stages.model.layers import decoder_layers, let_recompute, shorten_last_layer
from stages.model.lora import fuse, unfuse
from stages.model.packing import Row
from stages.model.stock import backbone, text_model


def put_on(
    model: PeftModel,
    train: Train,
    dtype: torch.dtype,
    device: torch.device | None = None,
    short: bool = True,
) -> None:
    """Let a model take packed rows.

    Args:
        device: where it will compute; where it is if None.
        short: whether this project computes the last layer, for the tokens that are read alone.

    Raises:
        UserError: its layers cannot be adapted this way, or the attention asked for is not exact.
    """
    base = model.get_base_model()
    device = device or next(model.parameters()).device
    attend(base, attention_for(base, train, dtype, device))
    unround_logits(model)
    read_last_tokens(base, short)
    for layer in decoder_layers(base):
        let_recompute(layer)
    fuse(model)


def take_off(model: PeftModel) -> None:
    """Undo `put_on`."""
    base = model.get_base_model()
    unfuse(model)
    for module in (base, *decoder_layers(base)):
        vars(module).pop("forward", None)
    round_logits(model)
    attend(base, "eager")


def attend(base: PreTrainedModel, implementation: str) -> None:
    """Let a model's attention be computed by an implementation."""
    for config in (base.config, text_model(base).config):
        config._attn_implementation = implementation


def attention_for(
    base: PreTrainedModel, train: Train, dtype: torch.dtype, device: torch.device
) -> str:
    """The attention implementation; `auto` is this project's own.

    Raises:
        UserError: SDPA was asked for, for an architecture with soft-capped attention logits
            (Gemma 2), which it drops, in some releases silently.
    """
    if train.attention == "sdpa" and soft_capped(base.config):
        raise UserError(
            f"train.attention is sdpa, but {base.config.model_type} caps its attention logits, "
            "which sdpa leaves out: use auto, eager or flex_attention"
        )
    if train.attention == "flash4" and flash4.serves(base, dtype, device):
        return FLASH4
    if train.attention in ("auto", "flash4"):  # which a prediction elsewhere may lack
        return fastest(base, dtype, device)
    return train.attention


def read_last_tokens(base: PreTrainedModel, short: bool) -> None:
    """Give a model a forward that reads its head at one token an example.

    transformers reads one token a row, or all of them; a packed row holds several examples. The
    new forward takes what a row has, and returns float32 logits: (examples, 3) of a classification
    head, (examples, vocabulary) of a language-model head.
    """
    shorten_last_layer(base, short)
    base.forward = partial(_forward, base, base.forward)


def _forward(
    base: PreTrainedModel,
    whole: nn.Module,
    input_ids: Tensor,
    position_ids: Tensor,
    lengths: tuple[int, ...],
    longest: int,
    bounds: Tensor,
    **_: object,
) -> Tensor:
    row = {"input_ids": input_ids, "position_ids": position_ids, "use_cache": False}
    row["segments"] = segments(lengths, longest, bounds, base.config)
    if not hasattr(base, HEAD):
        return whole(**row).logits[0]
    hidden = backbone(base)(**row).last_hidden_state[0]
    with torch.autocast(hidden.device.type, enabled=False):
        return base.score(hidden.float())


def logits(model: nn.Module, row: Row) -> Tensor:
    """What the head says at each example's last token: (examples, classes or vocabulary)."""
    return model(
        input_ids=row.input_ids,
        position_ids=row.position_ids,
        lengths=row.lengths,
        longest=row.longest,
        bounds=row.bounds,
    )
