"""Layers with an adapter compute what PEFT's own do."""

import pytest
import torch
from torch import nn

from stages.config.errors import UserError
from stages.config.params import Lora, Quantization
from stages.model.build import build
from stages.model.layers import decoder_layers
from stages.model.lora import dense_bytes, keep_dense
from stages.training.gates.probe import probing
from stages.training.gates.reference import in_float32
from tests.support.gradients import gradients, relative

CPU = torch.device("cpu")


def with_peft(model):
    """The same model with PEFT's forward in its layers."""
    for layer in model.modules():
        if type(layer).__name__.startswith("Fused"):
            layer.__class__ = type(layer).__base__
            # Some CPUs would have the weight repacked, for which these layers are too narrow.
            layer.base_layer.support_avx512bf16_for_cpu = False
    return model


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gemma3", "qwen2"])
@pytest.mark.parametrize("kind", ["none", "nf4", "fp4"])
def test_in_float32_logits_and_gradients_are_those_of_peft(tiny, params, architecture, kind):
    update = {"quantization": Quantization(type=kind, double=kind == "nf4")}
    model = build(tiny(architecture), params.train.model_copy(update=update), CPU)
    with probing(model):
        ours = gradients(model)
        assert relative(ours, gradients(with_peft(model))) < 1e-4


def test_in_bfloat16_they_are_those_of_peft_under_autocast(tiny, params):
    model = build(tiny(), params.train.model_copy(update={"dtype": "bfloat16"}), CPU)
    exact = build(tiny(), params.train, CPU)
    with probing(model), probing(exact):
        reference = gradients(exact)
        ours = relative(gradients(model), reference)
        peft = relative(gradients(with_peft(model), autocast=True), reference)
    assert ours < max(1e-2, 1.5 * peft), "no further from float32 than PEFT's is"


@pytest.mark.parametrize("seed", range(3))
def test_dropout_drops_the_adapters_input_alone(tiny, params, seed):
    update = {"lora": Lora(r=4, alpha=8, dropout=0.5, targets="all-linear")}
    model = build(tiny(), params.train.model_copy(update=update), CPU).train()
    with probing(model):
        torch.manual_seed(seed)
        ours = gradients(model)
        torch.manual_seed(seed)
        assert relative(ours, gradients(with_peft(model))) < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_are_kept_de_quantised_change_no_number(tiny, params, dtype):
    update = {"dtype": dtype, "quantization": Quantization(type="nf4", double=True)}
    model = build(tiny(), params.train.model_copy(update=update), CPU)
    layers = decoder_layers(model)
    linear = [m for m in layers[0].modules() if type(m).__name__.startswith("Fused")]
    size = getattr(torch, dtype).itemsize
    assert dense_bytes(layers[0], getattr(torch, dtype)) == size * sum(
        m.in_features * m.out_features for m in linear
    )
    with probing(model):
        before = gradients(model)
        keep_dense(layers[0])
        assert all(m.dense.dtype == getattr(torch, dtype) for m in linear)
        assert relative(gradients(model), before) == 0
        with in_float32(model):  # gates look in it, too
            gradients(model)
        assert relative(gradients(model), before) == 0
    unquantised = {"quantization": Quantization(type="none", double=False)}
    plain = build(tiny(), params.train.model_copy(update=unquantised), CPU)
    assert dense_bytes(decoder_layers(plain)[0], torch.float32) == 0


def test_a_bias_is_added_once(tiny, params):
    model = build(tiny("qwen2"), params.train, CPU)
    biased = [
        m for m in model.modules() if getattr(getattr(m, "base_layer", m), "bias", None) is not None
    ]
    assert biased, "Qwen 2 has biases"
    for layer in biased:
        if hasattr(layer, "base_layer"):
            nn.init.normal_(layer.base_layer.bias.data)
    with probing(model):
        ours = gradients(model)
        assert relative(ours, gradients(with_peft(model))) < 1e-4


def test_a_layer_that_is_not_linear_is_refused_by_name(tiny, params):
    lora = Lora(r=4, alpha=8, dropout=0.0, targets=["embed_tokens"])
    with pytest.raises(UserError, match=r"model\.embed_tokens, a Embedding: only linear"):
        build(tiny(), params.train.model_copy(update={"lora": lora}), CPU)
