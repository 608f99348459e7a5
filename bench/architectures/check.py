"""Loads a tiny checkpoint back as a user would, and looks at what it computes."""

from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel

from bench.architectures import tiny

TEXT = "User: which answer is better, the one that was given first? A, B or tie"


def check(model_type: str, folder: Path) -> str:
    """One word or sentence on a checkpoint of a model type: "ok", or what is wrong with it."""
    tiny.make(model_type, folder)
    model, lacks = load(model_type, folder)
    if lacks:
        return f"lacks {lacks}"
    return read_logits(model, folder)


def auto_class(model_type: str) -> type:
    """The auto class of transformers that loads a model type with a head over the vocabulary."""
    if model_type in tiny.MULTIMODAL:
        return transformers.AutoModelForMultimodalLM
    if model_type in tiny.TO_SEQUENCE:
        return transformers.AutoModelForSeq2SeqLM
    if model_type in tiny.encoder_types():
        masked = model_type in tiny.MASKED
        name = "AutoModelForMaskedLM" if masked else "AutoModelForSequenceClassification"
        return getattr(transformers, name)
    return transformers.AutoModelForCausalLM


def load(model_type: str, folder: Path) -> tuple[PreTrainedModel, str]:
    """A checkpoint in float32 with eager attention, and the tensors it lacks or has too many of."""
    model, report = auto_class(model_type).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    wrong = {kind: sorted(map(str, report[kind]))[:3] for kind in kinds if report[kind]}
    return model.eval(), str(wrong or "")


@torch.no_grad()
def read_logits(model: PreTrainedModel, folder: Path) -> str:
    """Whether logits are finite, of a sane size, and depend on the text."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    other = ids.clone()
    other[0, 1] = ids[0, 2]
    first, second = (model(input_ids=text).logits.float() for text in (ids, other))
    if not first.isfinite().all():
        return "logits are not finite"
    spread, moved = first.std().item(), (first - second)[:, 1:].abs().max().item()
    if not 0.02 < spread < 100:
        return f"logits have a standard deviation of {spread:.2g}"
    if moved < 1e-3 * spread:
        return f"another token moves logits by only {moved:.2g}"
    return "ok"
