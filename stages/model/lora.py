"""Linear layers with an adapter, forward and backward written out.

PEFT adds the adapter's part in passes of its own over a layer's whole output, and casts the input
to the adapter's float32 where autocast does not. Here the part is added by the matrix product
itself, in the base's dtype, and the input is the only activation kept for the backward pass. PEFT
still owns the modules: their parameters, names and files are its own.
"""

from typing import Any

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from peft import PeftModel
from peft.tuners.lora import LoraLayer, ParamWrapper
from torch import Tensor, nn
from torch.nn import functional as F

from stages.config.errors import UserError
from stages.model import fp8


def fuse(model: PeftModel) -> None:
    """Let every adapted layer of a model compute as this module does; experts stay PEFT's.

    Raises:
        UserError: an adapted layer is not linear.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer) and not isinstance(layer, ParamWrapper):
            if not isinstance(layer.base_layer, nn.Linear):
                raise UserError(
                    f"train.lora.targets names {name.removeprefix('base_model.model.')}, a "
                    f"{type(layer.base_layer).__name__}: only linear layers can be adapted"
                )
            # A class, and not a function on the instance: compiled once, it then fits all layers.
            layer.__class__ = _fused(type(layer))


def unfuse(model: PeftModel) -> None:
    """Undo `fuse`."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and type(layer).forward is adapted:
            layer.__class__ = type(layer).__base__


def keep_dense(layer: nn.Module) -> None:
    """Keep the base's weights of a layer de-quantised beside the quantised ones.

    They are what every pass would compute of them again, in the dtype of its products.
    """
    for module in layer.modules():
        if _is_fused(module) and hasattr(module.base_layer.weight, "quant_state"):
            weight = module.base_layer.weight
            module.dense = dequantize_4bit(weight.data, weight.quant_state)


def keep_fp8(model: nn.Module) -> tuple[int, int]:
    """Keep the base's weights in FP8 as well, for the products of training.

    Returns:
        Of how many adapted layers, whose sizes the GPU's products take; and how many there are.
    """
    layers = [m for m in model.modules() if isinstance(m, LoraLayer)]
    fit = [m for m in layers if _is_fused(m) and fp8.fits(m.in_features, m.out_features)]
    for module in fit:
        weight = module.base_layer.weight
        module.rounded = fp8.weight(_dense(weight.data, getattr(weight, "quant_state", None)))
    return len(fit), len(layers)


def dense_bytes(layer: nn.Module, dtype: torch.dtype) -> int:
    """What `keep_dense` takes for a layer."""
    adapted = [m for m in layer.modules() if _is_fused(m)]
    sizes = [
        m.in_features * m.out_features
        for m in adapted
        if hasattr(m.base_layer.weight, "quant_state")
    ]
    return sum(sizes) * dtype.itemsize


def _is_fused(module: nn.Module) -> bool:
    return isinstance(module, LoraLayer) and type(module).forward is adapted


FUSED: dict[type[LoraLayer], type[LoraLayer]] = {}  # one class for all layers of a kind


def _fused(kind: type[LoraLayer]) -> type[LoraLayer]:
    if kind not in FUSED:
        own = {"forward": adapted, "dense": None, "rounded": None}
        FUSED[kind] = type(f"Fused{kind.__name__}", (kind,), own)
    return FUSED[kind]


def adapted(layer: LoraLayer, x: Tensor) -> Tensor:
    """base(x) + scaling B A dropout(x), in the dtype of x (Hu et al. 2021)."""
    weight = layer.base_layer.weight
    dropout = layer.lora_dropout["default"]
    kept = layer.dense is not None
    training = torch.is_grad_enabled() and x.dtype == torch.bfloat16
    return _Adapted.apply(
        x,
        None if isinstance(dropout, nn.Identity) else dropout(x),
        layer.dense if kept else weight.data,
        None if kept else getattr(weight, "quant_state", None),
        layer.rounded if training else None,
        layer.base_layer.bias,
        layer.lora_A["default"].weight,
        layer.lora_B["default"].weight,
        layer.scaling["default"],
    )[0]


class _Adapted(torch.autograd.Function):
    """The base is frozen: gradients go to the input, and to A and B."""

    @staticmethod
    def forward(
        x: Tensor,
        dropped: Tensor | None,
        weight: Tensor,
        state: QuantState | None,
        rounded: fp8.Weight | None,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scaling: float,
    ) -> tuple[Tensor, Tensor]:
        low = _rows(x if dropped is None else dropped) @ a.to(x.dtype).T
        if rounded is None:
            out = product(_rows(x), _dense(weight, state), bias, low, b.to(x.dtype), scaling)
        else:
            base = *fp8.rounded(_rows(x)), rounded.forward, rounded.forward_scale
            out = fp8.product(*base, bias, low, b.to(x.dtype), scaling)
        return out.view(*x.shape[:-1], -1), low

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        x, dropped, weight, ctx.state, ctx.rounded, _, a, b, ctx.scaling = inputs
        ctx.separate, ctx.adapter = dropped is not None, a.dtype
        ctx.save_for_backward(dropped if ctx.separate else x, output[1], weight, a, b)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: None) -> tuple[Tensor | None, ...]:
        x, low, weight, a, b = ctx.saved_tensors
        gradient = _rows(gradient)
        grad_low = (gradient @ b.to(x.dtype)) * ctx.scaling
        grad_a = grad_low.T @ _rows(x)
        grad_b = (gradient.T @ low) * ctx.scaling
        a = a.to(x.dtype)
        grad_x = grad_dropped = None
        if ctx.separate:
            grad_dropped = (grad_low @ a).view(x.shape)
        if ctx.needs_input_grad[0]:
            both = (None, None) if ctx.separate else (grad_low, a.T)
            if ctx.rounded is None:
                grad_x = product(gradient, _dense(weight, ctx.state).T, None, *both, 1.0)
            else:
                base = *fp8.rounded(gradient), ctx.rounded.backward, ctx.rounded.backward_scale
                grad_x = fp8.product(*base, None, *both, 1.0)
            grad_x = grad_x.view(x.shape)
        return (
            grad_x,
            grad_dropped,
            None,
            None,
            None,
            None,
            grad_a.to(ctx.adapter),
            grad_b.to(ctx.adapter),
            None,
        )


@torch.library.custom_op("backbones::product", mutates_args=())
def product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    low: Tensor | None,
    b: Tensor | None,
    scaling: float,
) -> Tensor:
    """x Wᵀ + bias + scaling low bᵀ, of which the last is left out without `low`.

    It is added in place; the compiler, which cannot see into this, would copy.
    """
    out = F.linear(x, weight, bias)
    return out if low is None or b is None else out.addmm_(low, b.T, alpha=scaling)


@product.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    low: Tensor | None,
    b: Tensor | None,
    scaling: float,
) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _dense(weight: Tensor, state: QuantState | None) -> Tensor:
    return weight if state is None else dequantize_4bit(weight, state)
