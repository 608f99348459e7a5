"""A quantised, frozen backbone with a trainable adapter and a head read at each last token."""

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    PreTrainedConfig,
)

from stages.errors import UserError
from stages.params import Train
from stages.train.attention import PACKED, Segments
from stages.train.packing import Row

HEAD = "score"  # transformers' name of the classification head


def compute_dtype(requested: str, device: torch.device) -> torch.dtype:
    """The dtype of the frozen base and its products; adapter and head stay float32.

    `auto` is bfloat16 where the processor multiplies it, else float32: an emulated bfloat16 product
    is several times slower than float32.
    """
    if requested != "auto":
        return getattr(torch, requested)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def attention_for(config: PreTrainedConfig, requested: str) -> str:
    """The attention implementation; `auto` is this project's own, exact for every architecture.

    Raises:
        UserError: SDPA was asked for, for an architecture with soft-capped attention logits
            (Gemma 2), which it drops, in some releases silently.
    """
    if requested == "sdpa" and soft_capped(config):
        raise UserError(
            f"train.attention is sdpa, but {config.model_type} caps its attention logits, which "
            "sdpa leaves out: use auto, eager or flex_attention"
        )
    return PACKED if requested == "auto" else requested


def soft_capped(config: PreTrainedConfig) -> bool:
    """Whether the architecture caps its attention logits (Gemma 2)."""
    return getattr(config, "attn_logit_softcapping", None) is not None


def build(weights: Path, train: Train, device: torch.device) -> PeftModel:
    """Load a checkpoint, quantise and freeze it, add the adapter and, to classify, a zero head.

    Args:
        weights: a folder in transformers' layout, safetensors only.

    Returns:
        A PEFT model whose forward takes `input_ids`, `position_ids` and `segments` of a packed row.
    """
    dtype = compute_dtype(train.dtype, device)
    config = AutoConfig.from_pretrained(weights)
    config.use_cache = False
    if config.pad_token_id is None:
        config.pad_token_id = _any_token_id(config.eos_token_id)
    classify = train.objective == "classify"
    if classify:
        config.num_labels = 3
    model_class = AutoModelForSequenceClassification if classify else AutoModelForCausalLM
    base = model_class.from_pretrained(
        weights,
        config=config,
        dtype=dtype,
        attn_implementation=attention_for(config, train.attention),
        quantization_config=quantization(train, dtype),
        use_safetensors=True,
        device_map={"": device},
    )
    if classify:
        nn.init.zeros_(base.score.weight)
    if train.gradient_checkpointing:
        base.activation_checkpointing_enable()
    model = get_peft_model(base, _lora(train, classify))
    if classify:
        head(model).float()
    read_last_tokens(base)
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


def read_last_tokens(base: nn.Module) -> None:
    """Give a model a forward that reads its head at one token an example.

    transformers reads one token a row, or all of them; a packed row holds several examples. The
    new forward takes a row's `input_ids`, `position_ids` and `segments`, and returns float32
    logits: (examples, 3) of a classification head, (examples, vocabulary) of a language-model head.
    """
    whole = base.forward

    def classify(
        input_ids: Tensor, position_ids: Tensor, segments: Segments, **_: object
    ) -> Tensor:
        hidden = base.base_model(
            input_ids=input_ids, position_ids=position_ids, use_cache=False, segments=segments
        ).last_hidden_state
        with torch.autocast(hidden.device.type, enabled=False):
            return base.score(hidden[0, segments.bounds[1:] - 1].float())

    def speak(input_ids: Tensor, position_ids: Tensor, segments: Segments, **_: object) -> Tensor:
        out = whole(
            input_ids=input_ids,
            position_ids=position_ids,
            use_cache=False,
            segments=segments,
            logits_to_keep=segments.bounds[1:] - 1,
        )
        return out.logits[0].float()

    base.forward = classify if hasattr(base, HEAD) else speak


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


def logits(model: nn.Module, row: Row, dtype: torch.dtype) -> Tensor:
    """What the head says at each example's last token: (examples, classes or vocabulary)."""
    segments = Segments(row.lengths, row.bounds)
    with torch.autocast(row.input_ids.device.type, dtype, enabled=dtype != torch.float32):
        return model(input_ids=row.input_ids, position_ids=row.position_ids, segments=segments)
