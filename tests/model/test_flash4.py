"""FlashAttention 4: given what it needs, and refused in words where it cannot be had."""

import sys
from types import ModuleType

import pytest
import torch

from stages.config.errors import UserError
from stages.config.params import Quantization
from stages.model import attention, flash4, layers, packed
from stages.model.attention import FLASH4, PACKED
from stages.model.build import build
from stages.model.objective import Objective
from stages.model.passes import Compute, class_logits
from stages.training.fold import train_fold
from stages.training.gates.probe import probing
from tests.support.gradients import EXAMPLES, gradients, relative

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
COMPUTE = Compute(Objective(), CPU, torch.float32, 70)


def varlen(q, k, v, *, cu_seqlens_q, max_seqlen_q, softmax_scale, causal, **settings):
    """What flash-attn-4 documents of its function, in plain sums."""
    left, right = settings["window_size"]
    assert causal and right in (None, 0) and settings["cu_seqlens_k"] is cu_seqlens_q
    outs = []
    for start, end in zip(cu_seqlens_q.tolist(), cu_seqlens_q.tolist()[1:], strict=False):
        assert end - start <= max_seqlen_q == settings["max_seqlen_k"]
        queries, keys, values = (x[start:end].transpose(0, 1) for x in (q, k, v))
        shared = queries.shape[0] // keys.shape[0]
        scores = queries @ keys.repeat_interleave(shared, 0).mT * softmax_scale
        if cap := settings["softcap"]:
            scores = torch.tanh(scores / cap) * cap
        place = torch.arange(end - start)
        back = place[:, None] - place
        seen = (back >= 0) & (back <= (len(place) if left is None else left))
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        outs.append((weights @ values.repeat_interleave(shared, 0)).transpose(0, 1))
    return torch.cat(outs), None


@pytest.fixture
def package(monkeypatch):
    """A stand-in for the package, which runs on GPUs alone."""
    outer, inner = ModuleType("flash_attn"), ModuleType("flash_attn.cute")
    outer.__path__, inner.flash_attn_varlen_func = [], varlen
    monkeypatch.setitem(sys.modules, "flash_attn", outer)
    monkeypatch.setitem(sys.modules, "flash_attn.cute", inner)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gemma3", "qwen2"])
@pytest.mark.parametrize("window", [16, 512])
def test_it_is_told_caps_windows_shared_keys_and_bounds(
    package, tiny, params, architecture, window
):
    model = build(tiny(architecture), params.train, CPU).eval()
    for layer in layers.decoder_layers(model):
        if getattr(layer.self_attn, "sliding_window", None):
            layer.self_attn.sliding_window = window
    with probing(model):
        packed.attend(model.get_base_model(), PACKED)
        expected = class_logits(model, EXAMPLES, COMPUTE)
        packed.attend(model.get_base_model(), FLASH4)
        found = class_logits(model, EXAMPLES, COMPUTE)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_training_that_cannot_have_it_is_refused_before_the_weights_are_read(
    tiny, battles, params, tmp_path
):
    train = params.train.model_copy(update={"attention": "flash4"})
    wanted = params.model_copy(update={"train": train})
    told = r"flash4, which needs .*found a CPU, float32, and the package is not installed.*auto"
    with pytest.raises(UserError, match=told):
        train_fold(tiny(), battles[:20], battles[20:30], wanted, tmp_path)


def test_on_an_h100_it_is_taken_only_where_it_is_asked_for(package, tiny, params, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(flash4, "_installed", lambda: True)  # a stand-in has no file to find
    base, half = build(tiny("gemma2"), params.train, CPU).get_base_model(), torch.bfloat16
    train = params.train.model_copy(update={"attention": "flash4"})
    flash4.require(half, CUDA)
    assert packed.attention_for(base, train, half, CUDA) == FLASH4
    assert packed.attention_for(base, params.train, half, CUDA) == PACKED
    monkeypatch.setattr(attention, "head_size", lambda _: 512)
    monkeypatch.setattr(flash4, "head_size", lambda _: 512)
    assert packed.attention_for(base, train, half, CUDA) == PACKED, "no kernel is that wide"


def test_a_prediction_elsewhere_does_without_it(tiny, params):
    train = params.train.model_copy(update={"attention": "flash4"})
    model = build(tiny(), train, CPU)
    assert model.config._attn_implementation == PACKED


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gemma3", "qwen2"])
def test_on_a_gpu_it_gives_eager_attentions_gradients(tiny, params, architecture):
    pytest.importorskip("flash_attn.cute")
    unquantised = {"quantization": Quantization(type="none", double=False)}
    wanted = {**unquantised, "dtype": "bfloat16", "attention": "flash4"}
    exact = {**unquantised, "dtype": "float32", "attention": "eager"}
    found, expected = (
        build(tiny(architecture), params.train.model_copy(update=update), CUDA).train()
        for update in (wanted, exact)
    )
    assert found.config._attn_implementation == FLASH4
    with probing(found), probing(expected):
        assert relative(gradients(found), gradients(expected)) < 3e-2
