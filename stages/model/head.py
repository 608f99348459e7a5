"""The head that reads a battle's last token, and the parameters that are trained with it."""

from functools import partial

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from transformers import PreTrainedModel

HEAD = "score"  # transformers' name of the classification head


def give_head(base: PreTrainedModel, outputs: int) -> None:
    """Put a head of zeros, in float32, in the place of a language model's own.

    It stands on the base model itself, so that an architecture needs no classification class.
    """
    vocabulary, device = base.get_output_embeddings(), next(base.parameters()).device
    if vocabulary is None:  # an encoder
        width = base.config.get_text_config().hidden_size
    else:
        (name,) = [name for name, module in base.named_modules() if module is vocabulary]
        width = vocabulary.in_features
        base.set_submodule(name, nn.Identity())
    base.score = nn.Linear(width, outputs, bias=False, device=device)
    nn.init.zeros_(base.score.weight)
    base.config.num_labels = outputs


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


def unround_logits(model: PeftModel) -> None:
    """Let a language-model head give float32 logits: in bfloat16 those near 20 lie 0.125 apart."""
    if not hasattr(model.get_base_model(), HEAD):
        vocabulary = head(model)
        vocabulary.forward = partial(_float32_logits, vocabulary)


def round_logits(model: PeftModel) -> None:
    """Undo `unround_logits`."""
    vars(head(model)).pop("forward", None)


def _float32_logits(vocabulary: nn.Linear, hidden: Tensor) -> Tensor:
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
