"""A quantised, frozen backbone with a trainable adapter and a head."""

from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import PreTrainedModel

from stages.config.params import Train
from stages.model import experts, packed, stock
from stages.model.head import HEAD, give_head, head


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


def build(weights: Path, train: Train, device: torch.device, outputs: int = 3) -> PeftModel:
    """Load a checkpoint, quantise and freeze it, adapt it, and let it take packed rows."""
    model = build_plain(weights, train, device, outputs)
    packed.put_on(model, train, compute_dtype(train.dtype, device))
    return model


def build_plain(weights: Path, train: Train, device: torch.device, outputs: int = 3) -> PeftModel:
    """The same as transformers and PEFT make it, with their own forward.

    Args:
        weights: a folder in transformers' layout, safetensors only.
        outputs: of the head, if one is trained.
    """
    base = stock.load(weights, train, compute_dtype(train.dtype, device), device)
    return adapt(base, train, outputs)


def adapt(base: PreTrainedModel, train: Train, outputs: int = 3) -> PeftModel:
    """Freeze a base, add PEFT's adapter and, but for `sft`, a head of zeros."""
    classify = train.objective != "sft"
    with stock.explained(f"a {type(base).__name__} takes no head or no adapter"):
        if classify:
            give_head(base, outputs)
        transformers.set_seed(train.seed)  # whatever loading has drawn, the adapter starts alike
        model = get_peft_model(base, _lora(base, train, classify))
        experts.let_adapt(model)
    if classify:
        head(model).float()
    return model


def _lora(base: PreTrainedModel, train: Train, classify: bool) -> LoraConfig:
    targets = train.lora.targets
    if targets == "all-linear":
        targets = stock.adaptable(base, train.lora.experts)
    return LoraConfig(
        task_type=TaskType.SEQ_CLS if classify else TaskType.CAUSAL_LM,
        r=train.lora.r,
        lora_alpha=train.lora.alpha,
        lora_dropout=train.lora.dropout,
        target_modules=targets,
        target_parameters=experts.parameters(base, train.lora) or None,
        modules_to_save=[HEAD] if classify else None,
    )
