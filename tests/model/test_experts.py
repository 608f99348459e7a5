"""Experts with an adapter, in 4 bits or whole, compute what PEFT's own adapter does."""

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from torch import nn
from transformers import AutoTokenizer

from bench.architectures.trial import params
from stages.config.errors import UserError
from stages.config.params import Train
from stages.model import stock
from stages.model.build import adapt
from stages.model.head import adapter_parameters
from stages.training.fold import train_fold
from stages.training.gates.probe import probing
from tests.support.architectures import CPU, Checkpoints
from tests.support.battles import make_battles

MIXTURES = ["mixtral", "qwen3_moe", "gpt_oss"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("architectures"))


def train(kind: str = "nf4", objective: str = "sft", **lora: object) -> Train:
    shipped = params(objective, "float32", "auto").train
    return shipped.model_copy(
        update={
            "lora": shipped.lora.model_copy(update={"experts": True, **lora}),
            "quantization": shipped.quantization.model_copy(update={"type": kind}),
        }
    )


def logits(model, checkpoint):
    ids = AutoTokenizer.from_pretrained(checkpoint)("which answer is better?", return_tensors="pt")
    with torch.no_grad():
        return model.eval()(input_ids=ids.input_ids).logits


def fill(whole: nn.Module, quantised: nn.Module) -> None:
    """Give a model in full the numbers that stand in another one's 4 bits."""
    for name, module in quantised.named_modules():
        if isinstance(module, Linear4bit):
            bias = 0 if module.bias is None else module.bias
            weight = (module(torch.eye(module.in_features)) - bias).T
            whole.get_submodule(name).weight.data = weight.detach().contiguous()
        elif nn.utils.parametrize.is_parametrized(module):
            for own in module.parametrizations:
                getattr(whole.get_submodule(name), own).data = getattr(module, own).detach()


@pytest.mark.parametrize("model_type", MIXTURES)
def test_what_is_trained_in_4_bits_is_the_same_to_plain_peft_on_whole_experts(
    checkpoints, tmp_path, model_type
):
    checkpoint = checkpoints(model_type)
    quantised, whole = (
        stock.load(checkpoint, train(kind), torch.float32, CPU) for kind in ("nf4", "none")
    )
    fill(whole, quantised)
    model = adapt(quantised, train())
    untrained = logits(model, checkpoint)
    with probing(model):
        expected = logits(model, checkpoint)
        assert torch.equal(logits(model, checkpoint), expected), "no pass adds to the next"
        model.save_pretrained(tmp_path)
    assert torch.equal(logits(model, checkpoint), untrained)
    assert (expected - untrained).norm() > 1e-3 * expected.norm()
    found = logits(PeftModel.from_pretrained(whole, tmp_path), checkpoint)
    assert (found - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("kind", ["nf4", "none"])
@pytest.mark.parametrize("model_type", MIXTURES)
def test_experts_are_adapted_and_routers_are_not(checkpoints, model_type, kind):
    model = adapt(stock.load(checkpoints(model_type), train(kind), torch.float32, CPU), train(kind))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert sum(".experts." in name for name in trained) == 8, "A and B of two in each of two layers"
    assert not any("router" in name or ".gate." in name for name in trained)
    assert stock.quantised_share(model) == (pytest.approx(1, abs=0.02) if kind == "nf4" else 0)


@pytest.mark.parametrize(
    ("model_type", "objective"),
    [("mixtral", "sft"), ("qwen3_moe", "classify"), ("gpt_oss", "classify"), ("gpt_oss", "sft")],
)
def test_a_fold_trains_experts(checkpoints, tmp_path, model_type, objective):
    shipped = params(objective, "bfloat16", "auto")
    wanted = shipped.model_copy(update={"train": train(objective=objective)})
    battles = make_battles()
    dealt = battles.assign(group=battles.id, fold=0)
    found = train_fold(checkpoints(model_type), dealt[:8], dealt[8:12], wanted, tmp_path)
    passed = {gate["name"] for gate in found.summary["gates"] if gate["passed"]}
    assert {"reload", "gradients", "as_transformers", "adapter_moved"} <= passed
    assert any("experts" in name for name in adapter_parameters(found.model))


def test_experts_are_left_unless_they_are_wanted(checkpoints):
    base = stock.load(checkpoints("mixtral"), train(), torch.float32, CPU)
    model = adapt(base, train(experts=False))
    assert not any("experts" in n for n, p in model.named_parameters() if p.requires_grad)


def test_dropout_is_refused_in_words(checkpoints):
    base = stock.load(checkpoints("mixtral"), train(), torch.float32, CPU)
    with pytest.raises(UserError, match=r"dropout is 0\.1, but experts .*\.gate_up_proj"):
        adapt(base, train(dropout=0.1))
