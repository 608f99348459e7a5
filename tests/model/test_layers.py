"""Compiled layers, and attention by kernel: what a device gets is the same model."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from stages.config.errors import UserError
from stages.config.params import Quantization
from stages.model import attention, layers
from stages.model.attention import FLEX, PACKED, VARLEN
from stages.model.build import build, compute_dtype
from stages.model.layers import compile_layers, plain_layers, recompute
from stages.model.objective import Objective
from stages.model.packed import logits
from stages.model.packing import pack
from stages.model.passes import Compute, class_logits
from stages.training import fast
from stages.training.gates.gate import GateFailed
from stages.training.gates.probe import probing
from tests.support.gradients import EXAMPLES, gradients, relative
from tests.support.setting import Setting

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
COMPUTE = Compute(Objective(), CPU, torch.float32, 70)
GPUS = {"T4": ((7, 5), False), "A100": ((8, 0), True), "H100": ((9, 0), True)}


@pytest.fixture
def gpu(monkeypatch, request):
    """A GPU by name, as far as PyTorch describes it."""
    capability, bfloat16 = GPUS[request.param]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bfloat16)
    return request.param


@pytest.fixture
def graphs():
    """Counts the graphs that PyTorch compiles; a compiler of its own so that none is needed."""
    torch._dynamo.reset()
    made = []

    def backend(module, inputs):
        made.append(module)
        return torch._dynamo.lookup_backend("aot_eager")(module, inputs)

    backend.made = made
    yield backend
    torch._dynamo.reset()


def test_sums_are_in_one_order_only_while_that_is_wanted():
    memory = torch.utils.deterministic

    def state():
        return torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory

    before = state()
    with pytest.raises(ZeroDivisionError), fast.repeatable():
        assert torch.are_deterministic_algorithms_enabled() and state() != before
        raise ZeroDivisionError
    assert state() == before


@pytest.mark.parametrize(
    ("gpu", "architecture", "dtype", "kernel"),
    [
        ("T4", "llama", torch.float16, PACKED),
        ("T4", "gemma2", torch.float16, PACKED),
        ("A100", "llama", torch.bfloat16, VARLEN),
        ("H100", "qwen2", torch.bfloat16, VARLEN),
        ("H100", "gemma3", torch.bfloat16, VARLEN),
        ("H100", "gemma2", torch.bfloat16, PACKED),
    ],
    indirect=["gpu"],
)
def test_every_gpu_gets_what_it_can_compute(gpu, tiny, architecture, dtype, kernel):
    model = AutoModelForCausalLM.from_pretrained(tiny(architecture))
    assert compute_dtype("auto", CUDA) == dtype
    assert attention.fastest(model, dtype, CUDA) == kernel
    assert attention.fastest(model, torch.float32, CUDA) == PACKED, "kernels are half precision"


@pytest.mark.parametrize("architecture", [pytest.param("llama", marks=pytest.mark.slow), "gemma2"])
def test_compiled_layers_compute_the_same_for_rows_of_any_length(
    tiny, params, graphs, architecture
):
    model = build(tiny(architecture), params.train, CPU).train()
    with probing(model):
        plain = gradients(model)
        compile_layers(model, graphs)
        assert relative(gradients(model), plain) < 1e-4
        recompute(model, 1)
        assert relative(gradients(model), plain) < 1e-4
        compiled = len(graphs.made)
        assert compiled > 0
        for lengths in ([60, 70], [10, 7, 33, 44], [150]):
            (row,) = pack([[5] * n for n in lengths], 1000)
            logits(model, row).sum().backward()
        assert len(graphs.made) == compiled, "other rows need no other code"
        recompute(model, 0)
        plain_layers(model)
        assert relative(gradients(model), plain) == 0


@pytest.mark.parametrize("window", [16, pytest.param(512, marks=pytest.mark.slow)])
def test_flex_attention_keeps_caps_windows_and_bounds(tiny, params, graphs, window):
    model = build(tiny("gemma2"), params.train, CPU).eval()
    for layer in layers.decoder_layers(model):
        if layer.self_attn.sliding_window:
            layer.self_attn.sliding_window = model.config.sliding_window = window
    with probing(model):
        model.config._attn_implementation = PACKED
        expected = class_logits(model, EXAMPLES, COMPUTE)
        compile_layers(model, graphs)
        model.config._attn_implementation = FLEX
        found = class_logits(model, EXAMPLES, COMPUTE)
    assert graphs.made
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gpu", ["T4", "H100"], indirect=True)
def test_compiling_gives_soft_capped_models_flex_attention_where_it_runs(
    gpu, tiny, params, monkeypatch
):
    model = build(tiny("gemma2"), params.train, CPU)
    ampere = torch.cuda.get_device_capability() >= (8, 0)
    monkeypatch.setattr(layers, "ampere", lambda device: ampere)
    compile_layers(model)
    assert model.config._attn_implementation == (FLEX if ampere else PACKED)
    plain_layers(model)
    assert model.config._attn_implementation == PACKED


def test_a_compiler_that_computes_something_else_meets_a_gate(tiny, battles, params, monkeypatch):
    setting = Setting(tiny(), battles, params)

    def broken(model):
        for layer in layers.decoder_layers(model):
            forward = layer.inner_forward
            layer.inner_forward = lambda x, *a, _f=forward, **k: _f(x, *a, **k) * 1.01

    monkeypatch.setattr(fast, "compile_layers", broken)
    with pytest.raises(GateFailed, match=r"(?s)compiled: found .*train\.compile to false"):
        fast.compile_if_wanted(setting.model, setting.examples, setting.compute, True)


def test_without_a_working_compiler_layers_stay_plain_and_the_log_says_so(
    tiny, battles, params, monkeypatch, capsys
):
    setting = Setting(tiny(), battles, params)
    model, examples, compute = setting.model, setting.examples, setting.compute
    check = fast.compile_model

    def fails(module, inputs):
        raise RuntimeError("no C compiler")

    torch._dynamo.reset()
    monkeypatch.setattr(fast, "compile_layers", lambda model: compile_layers(model, fails))
    assert fast.compile_if_wanted(model, examples, compute, "auto") == [], "not tried on the CPU"
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match=r"train\.compile is true, but .*no C compiler"):
        fast.compile_if_wanted(model, examples, compute, True)
    # A GPU to the function that decides; the model stays where it is.
    monkeypatch.setattr(fast, "compile_model", lambda model, few, _: check(model, few, compute))
    assert fast.compile_if_wanted(model, examples, replace(compute, device=CUDA), "auto") == []
    assert "layers are not compiled, which is slower: " in capsys.readouterr().out
    assert setting.failed() == set(), "the model is whole"


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gemma3", "qwen2"])
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_kernels_and_compiled_layers_give_eager_attentions_gradients(
    tiny, params, architecture, compiled
):
    unquantised = {"quantization": Quantization(type="none", double=False)}
    half = {**unquantised, "dtype": "bfloat16"}
    model = build(tiny(architecture), params.train.model_copy(update=half), CUDA).train()
    exact = {**unquantised, "dtype": "float32", "attention": "eager"}
    reference = build(tiny(architecture), params.train.model_copy(update=exact), CUDA).train()
    if compiled:
        compile_layers(model)
    found, expected = [], []
    with probing(model), probing(reference):
        for of, out in ((model, found), (reference, expected)):
            (row,) = pack([ids * 4 for ids in EXAMPLES], 1000)
            logits(of, row.to(CUDA)).square().sum().backward()
            out += [p.grad.float().flatten() for p in of.parameters() if p.grad is not None]
    found, expected = torch.cat(found), torch.cat(expected)
    assert (found - expected).norm() / expected.norm() < 3e-2
    assert isinstance(model, nn.Module) and not found.isnan().any()
