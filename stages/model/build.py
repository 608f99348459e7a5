"""A quantised, frozen backbone with a trainable adapter and a head read at each last token."""

from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from stages.config.errors import UserError
from stages.config.params import Train
from stages.model.attention import fastest, segments, soft_capped
from stages.model.layers import decoder_layers, let_recompute, shorten_last_layer
from stages.model.lora import fuse
from stages.model.packing import Row

HEAD = "score"  # transformers' name of the classification head


def compute_dtype(requested: str, device: torch.device) -> torch.dtype:
    """The dtype of the frozen base and its products; adapter and head stay float32.

    `auto` is bfloat16 where the processor multiplies it: an emulated product is several times
    slower. Elsewhere it is float16 on a GPU (as on a T4) and float32 on a CPU.
    """
    if requested != "auto":
        return getattr(torch, requested)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def attention_for(config: PreTrainedConfig, train: Train, device: torch.device) -> str:
    """The attention implementation; `auto` is this project's own, exact for every architecture.

    Raises:
        UserError: SDPA was asked for, for an architecture with soft-capped attention logits
            (Gemma 2), which it drops, in some releases silently.
    """
    if train.attention == "sdpa" and soft_capped(config):
        raise UserError(
            f"train.attention is sdpa, but {config.model_type} caps its attention logits, which "
            "sdpa leaves out: use auto, eager or flex_attention"
        )
    if train.attention == "auto":
        return fastest(config, compute_dtype(train.dtype, device), device)
    return train.attention


def build(weights: Path, train: Train, device: torch.device) -> PeftModel:
    """Load a checkpoint, quantise and freeze it, and adapt it.

    Args:
        weights: a folder in transformers' layout, safetensors only.

    Returns:
        A PEFT model whose forward takes `input_ids`, `position_ids` and `segments` of a packed row.
    """
    dtype = compute_dtype(train.dtype, device)
    config = configure(AutoConfig.from_pretrained(weights), train, device)
    base = model_class(train).from_pretrained(
        weights,
        config=config,
        dtype=dtype,
        attn_implementation=config._attn_implementation,
        quantization_config=quantization(train, dtype),
        use_safetensors=True,
        device_map={"": device},
    )
    return adapt(base, train)


def configure(config: PreTrainedConfig, train: Train, device: torch.device) -> PreTrainedConfig:
    """A checkpoint's configuration, completed for training on packed rows."""
    config.use_cache = False
    config._attn_implementation = attention_for(config, train, device)
    if config.pad_token_id is None:
        config.pad_token_id = _any_token_id(config.eos_token_id)
    if train.objective == "classify":
        config.num_labels = 3
    return config


def model_class(train: Train) -> type:
    """The auto class that has the objective's head."""
    classify = train.objective == "classify"
    return AutoModelForSequenceClassification if classify else AutoModelForCausalLM


def adapt(base: PreTrainedModel, train: Train) -> PeftModel:
    """Freeze a base, add the adapter and, to classify, a head of zeros."""
    classify = train.objective == "classify"
    if classify:
        nn.init.zeros_(base.score.weight)
    else:
        vocabulary = base.get_output_embeddings()
        vocabulary.forward = partial(_float32_logits, vocabulary)
    read_last_tokens(base)
    model = get_peft_model(base, _lora(train, classify))
    for layer in decoder_layers(base):
        let_recompute(layer)
    fuse(model)
    if classify:
        head(model).float()
    return model


def quantization(train: Train, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """How the base is stored; heads are never quantised."""
    if train.quantization.type == "none":
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=train.quantization.type,
        bnb_4bit_use_double_quant=train.quantization.double,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=[HEAD, "lm_head"],
    )


def _lora(train: Train, classify: bool) -> LoraConfig:
    return LoraConfig(
        task_type=TaskType.SEQ_CLS if classify else TaskType.CAUSAL_LM,
        r=train.lora.r,
        lora_alpha=train.lora.alpha,
        lora_dropout=train.lora.dropout,
        target_modules=train.lora.targets,
        modules_to_save=[HEAD] if classify else None,
    )


def _any_token_id(ids: int | list[int] | None) -> int:
    """No row is padded here, but transformers' own classification forward asks for a pad token."""
    return ids[0] if isinstance(ids, list) else ids or 0


def read_last_tokens(base: PreTrainedModel) -> None:
    """Give a model a forward that reads its head at one token an example.

    transformers reads one token a row, or all of them; a packed row holds several examples. The
    new forward takes what a row has, and returns float32 logits: (examples, 3) of a classification
    head, (examples, vocabulary) of a language-model head.
    """
    shorten_last_layer(base)
    whole = base.forward

    def forward(
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
        hidden = base.base_model(**row).last_hidden_state[0]
        with torch.autocast(hidden.device.type, enabled=False):
            return base.score(hidden.float())

    base.forward = forward


def _float32_logits(vocabulary: nn.Linear, hidden: Tensor) -> Tensor:
    """A language-model head's logits, unrounded: in bfloat16 those near 20 lie 0.125 apart."""
    logits = _Float32Product.apply(hidden, vocabulary.weight)
    return logits if vocabulary.bias is None else logits + vocabulary.bias


class _Float32Product(torch.autograd.Function):
    """A product with a frozen half-precision weight whose sums stay float32."""

    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        if weight.device.type == "cuda" and weight.dtype != torch.float32:
            flat = torch.mm(hidden.flatten(0, -2), weight.T, out_dtype=torch.float32)
            return flat.unflatten(0, hidden.shape[:-1])
        return hidden.float() @ weight.float().T

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return gradient.to(weight.dtype) @ weight, None


def head(model: PeftModel) -> nn.Module:
    """The module that reads the last token: the trained score, or the language-model head."""
    base = model.get_base_model()
    if not hasattr(base, HEAD):
        return base.get_output_embeddings()
    score = base.score
    return score.modules_to_save["default"] if hasattr(score, "modules_to_save") else score


def adapter_parameters(model: PeftModel) -> dict[str, nn.Parameter]:
    """The trainable parameters of the adapter, the head's apart."""
    return {n: p for n, p in model.named_parameters() if p.requires_grad and "lora_" in n}


def head_parameters(model: PeftModel) -> dict[str, nn.Parameter]:
    """The trainable parameters of the head."""
    return {n: p for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n}


def logits(model: nn.Module, row: Row) -> Tensor:
    """What the head says at each example's last token: (examples, classes or vocabulary)."""
    return model(
        input_ids=row.input_ids,
        position_ids=row.position_ids,
        lengths=row.lengths,
        longest=row.longest,
        bounds=row.bounds,
    )
