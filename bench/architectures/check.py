"""Loads a tiny checkpoint back as a user would, and looks at what it computes."""

import inspect
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto as auto

from bench.architectures import tiny

TEXT = "User: which answer is better, the one that was given first? A, B or tie"


def check(model_type: str, folder: Path) -> str:
    """What comes of a model type: "ok", or how far it comes and what is wrong with it."""
    reached = "not made"
    try:
        tiny.make(model_type, folder)
        reached = "made, not loaded"
        model, wrong = load(model_type, folder)
        reached = "loaded, does not read text alone"
        return wrong or read_logits(model, folder)
    except Exception as error:  # whatever a library says is an outcome
        return f"{reached}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def auto_class(model_type: str) -> Any:
    """The auto class of transformers that loads a model type with a head over the vocabulary."""
    if model_type in auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES:
        return transformers.AutoModelForMultimodalLM
    if model_type in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return transformers.AutoModelForImageTextToText
    if model_type in tiny.TO_SEQUENCE:
        return transformers.AutoModelForSeq2SeqLM
    if model_type in tiny.encoder_types():
        masked = model_type in tiny.MASKED
        name = "AutoModelForMaskedLM" if masked else "AutoModelForSequenceClassification"
        return getattr(transformers, name)
    return transformers.AutoModelForCausalLM


def load(model_type: str, folder: Path) -> tuple[PreTrainedModel, str]:
    """A checkpoint in float32 with eager attention, and what is wrong with its tensors."""
    with tiny.without_timm():
        model, report = auto_class(model_type).from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    wrong = {kind: sorted(map(str, report[kind]))[:3] for kind in kinds if report[kind]}
    return model.eval(), f"made, loads with {wrong}" if wrong else ""


@torch.no_grad()
def read_logits(model: PreTrainedModel, folder: Path) -> str:
    """Whether logits are finite, of a sane size, and depend on the text."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    other = ids.clone()
    other[0, 1] = ids[0, 2]
    first, second = logits(model, ids), logits(model, other)
    allowed = first > torch.finfo(torch.float32).min  # tokens that stand for images may be barred
    if not first.isfinite().all():
        return "logits are not finite"
    spread = first[allowed].std().item()
    moved = (first - second)[allowed].abs().max().item()
    if not 1e-3 < spread < 100:
        return f"logits have a standard deviation of {spread:.2g}"
    if moved < 1e-3 * spread:
        return f"another token moves logits by only {moved:.2g}"
    return "ok"


def logits(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """What a model says of a text, as float32."""
    given = inspect.signature(model.forward).parameters
    extra = {"use_cache": False} if "use_cache" in given else {}
    extra |= {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    return model(input_ids=ids, **extra).logits.float()
