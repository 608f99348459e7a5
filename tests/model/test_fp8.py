"""Products of the frozen base in FP8: in training alone, and as exact as their rounding lets."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.config.errors import UserError
from stages.config.params import Lora, Quantization
from stages.model import fp8, layers, sharding
from stages.model.attention import FLEX
from stages.model.build import build
from stages.model.lora import keep_fp8
from stages.model.objective import Objective
from stages.model.passes import Compute, class_logits
from stages.training import fast
from stages.training.fold import train_fold
from stages.training.gates.gate import GateFailed
from stages.training.gates.probe import probing
from tests.support.gradients import EXAMPLES, gradients, relative
from tests.support.setting import Setting

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
COMPUTE = Compute(Objective(), CPU, torch.bfloat16, 1000)


@pytest.fixture
def model(tiny, params, request):
    """A tiny model that computes in bfloat16, of an architecture, by default Qwen 2 with biases."""
    update = {"dtype": "bfloat16"} | getattr(request, "param", {})
    return build(tiny("qwen2"), params.train.model_copy(update=update), CPU)


def worst(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """The largest error of each row, by the row's largest number."""
    return (found - expected).abs().amax(1) / expected.abs().amax(1)


def test_a_row_keeps_its_numbers_whatever_its_size():
    rows = torch.randn(8, 64) * torch.logspace(-6, 6, 8)[:, None]
    values, scale = fp8.rounded(rows.bfloat16())
    assert (worst(values.float() * scale, rows) < 2**-4).all()
    values, scale = fp8.rounded(torch.zeros(2, 16, dtype=torch.bfloat16))
    assert not (values.float() * scale).any()
    assert fp8.rounded(rows.T)[0].is_contiguous(), "a GPU has no product of others"


@pytest.mark.parametrize("biased", [False, True])
def test_a_product_is_that_of_the_rounded_factors(biased):
    x, dense = torch.randn(7, 64).bfloat16(), torch.randn(32, 64).bfloat16()
    low, b, bias = (torch.randn(*size).bfloat16() for size in ((7, 4), (32, 4), (32,)))
    weight, (rows, scale) = fp8.weight(dense), fp8.rounded(x)
    found = fp8.product(
        rows, scale, weight.forward, weight.forward_scale, bias if biased else None, low, b, 0.5
    )
    kept = weight.forward.float() * weight.forward_scale
    expected = (rows.float() * scale) @ kept.T + 0.5 * low.float() @ b.float().T
    expected += bias.float() if biased else 0
    assert found.dtype == torch.bfloat16
    assert (worst(found.float(), expected) < 2**-6).all()
    back = weight.backward.float() * weight.backward_scale
    assert (worst(back, dense.float().T) < 2**-4).all()


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"quantization": Quantization(type="none", double=False)},
        {"lora": Lora(r=4, alpha=8, dropout=0.5, targets="all-linear")},
    ],
    indirect=True,
)
def test_training_rounds_and_prediction_does_not(model):
    model.train()
    with probing(model):
        torch.manual_seed(0)
        plain, logits = gradients(model), class_logits(model, EXAMPLES, COMPUTE)
        assert keep_fp8(model) == (14, 14)
        torch.manual_seed(0)
        assert 0.01 < relative(gradients(model), plain) < 1
        assert torch.equal(class_logits(model, EXAMPLES, COMPUTE), logits)


def test_compiled_layers_round_as_plain_ones_do(model):
    torch._dynamo.reset()
    keep_fp8(model)
    with probing(model):
        plain = gradients(model)
        layers.compile_layers(model, "aot_eager")
        assert relative(gradients(model), plain) < 1e-2
    torch._dynamo.reset()


def test_a_gate_sees_a_scale_that_is_lost(tiny, battles, params, monkeypatch, capsys):
    train = params.train.model_copy(update={"dtype": "bfloat16"})
    setting = Setting(tiny(), battles, params.model_copy(update={"train": train}))
    few = setting.model, setting.examples, setting.compute
    (gate,) = fast.round_products(*few)
    assert (gate.name, gate.passed) == ("fp8", True)
    assert "in FP8 while training: those of 14 of 14 adapted layers" in capsys.readouterr().out
    sound = fp8.rounded
    monkeypatch.setattr(fp8, "rounded", lambda x: (sound(x)[0], torch.ones(len(x), 1)))
    for module in setting.model.modules():
        if getattr(module, "rounded", None) is not None:
            module.rounded = None
    with pytest.raises(GateFailed, match=r"(?s)fp8: found .*below 1.*set train\.fp8 to false"):
        fast.round_products(*few)


def test_a_way_or_sizes_without_such_products_are_refused(tiny, battles, params, monkeypatch):
    train = params.train.model_copy(update={"dtype": "bfloat16", "fp8": True})
    wanted = params.model_copy(update={"train": train})
    setting = Setting(tiny(), battles, wanted)
    plain = replace(setting.compute, way="plain")
    with pytest.raises(UserError, match=r"train\.fp8 is true, but .* the plain way"):
        fast.make_fast(setting.model, setting.examples, plain, wanted)
    monkeypatch.setattr(fast, "keep_fp8", lambda _: (14, 14))
    with pytest.raises(GateFailed, match="fp8: found 0, expected above 0"):
        fast.round_products(setting.model, setting.examples, setting.compute)
    monkeypatch.undo()
    monkeypatch.setattr(fp8, "fits", lambda *_: False)
    with pytest.raises(UserError, match=r"train\.fp8 is true, but no adapted layer"):
        fast.make_fast(setting.model, setting.examples, setting.compute, wanted)


def test_flex_attention_is_refused_with_it(tiny, battles, params):
    train = params.train.model_copy(update={"dtype": "bfloat16"})
    setting = Setting(tiny("gemma2"), battles, params.model_copy(update={"train": train}))
    setting.model.config._attn_implementation = FLEX
    with pytest.raises(UserError, match=r"train\.fp8 is true, but .*soft-capped.*to false"):
        fast.round_products(setting.model, setting.examples, setting.compute)


def test_a_training_in_fp8_is_whole(tiny, battles, params, tmp_path, monkeypatch):
    monkeypatch.setattr(fp8, "require", lambda *_: None)  # a CPU has them too, but slow ones
    train = params.train.model_copy(update={"dtype": "bfloat16", "fp8": True})
    wanted = params.model_copy(update={"train": train})
    found = train_fold(tiny(), battles[:20], battles[20:30], wanted, tmp_path)
    assert "fp8" in {gate["name"] for gate in found.summary["gates"]}
    assert np.isfinite(found.predictions.filter(like="ab_")).all(axis=None)


def test_layers_whose_sizes_have_no_such_product_stay_as_they_are(model, monkeypatch):
    fits = fp8.fits
    monkeypatch.setattr(fp8, "fits", lambda inputs, outputs: fits(inputs, outputs + 8))
    assert keep_fp8(model) == (0, 14)
    monkeypatch.setattr(fp8, "fits", lambda inputs, outputs: inputs == outputs)
    kept, layers = keep_fp8(model)
    assert 0 < kept < layers
    rounded = [m for m in model.modules() if getattr(m, "rounded", None) is not None]
    assert len(rounded) == kept and all(m.in_features == m.out_features for m in rounded)


def test_sizes_are_multiples_of_16():
    assert fp8.fits(64, 192)
    assert not fp8.fits(64, 40)
    assert not fp8.fits(72, 64)


def test_a_training_that_cannot_have_it_is_refused_before_the_weights_are_read(
    tiny, battles, params, tmp_path
):
    train = params.train.model_copy(update={"fp8": True})
    wanted = params.model_copy(update={"train": train})
    with pytest.raises(UserError, match=r"train\.fp8 is true.*found a CPU, float32: set it to fal"):
        train_fold(tiny(), battles[:20], battles[20:30], wanted, tmp_path)


def test_it_wants_an_h100_bfloat16_and_a_whole_base(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "A GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    fp8.require(torch.bfloat16, CUDA)
    with pytest.raises(UserError, match="found A GPU, float16: "):
        fp8.require(torch.float16, CUDA)
    monkeypatch.setattr(sharding, "wanted", lambda: True)
    with pytest.raises(UserError, match="found A GPU, bfloat16, SHARD: "):
        fp8.require(torch.bfloat16, CUDA)
    monkeypatch.setattr(sharding, "wanted", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    with pytest.raises(UserError, match="found A GPU, bfloat16: "):
        fp8.require(torch.bfloat16, CUDA)


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen2"])
def test_on_a_gpu_a_training_in_fp8_is_compiled_and_recorded(
    tiny, battles, params, tmp_path, architecture
):
    train = params.train.model_copy(update={"dtype": "bfloat16", "fp8": True})
    wanted = params.model_copy(update={"train": train})
    found = train_fold(tiny(architecture), battles[:20], battles[20:30], wanted, tmp_path)
    names = {gate["name"] for gate in found.summary["gates"]}
    assert {"compiled", "fp8", "recorded"} <= names
