"""Each known way to compute something else than transformers, planted, and what comes of it."""

import re

import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import LlamaForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from bench.architectures.__main__ import KINDS
from bench.architectures.trial import COMBINATIONS, fold, outcome, outcomes, params
from stages.config.errors import UserError
from stages.model import packed, stock
from stages.model.attention import PACKED, packed_attention
from stages.model.layers import decoder_layers
from stages.model.stock import backbone
from stages.training.gates.gate import GateFailed
from tests.support.architectures import Checkpoints, Tried

IMPORTANT = {
    "llama": "fast",
    "gemma2": "fast",
    "gemma3": "fast",
    "gpt_oss": "fast",
    "qwen3_moe": "fast",
    "qwen2_5_vl": "fast",
    "granite": "fast",
    "qwen3_5": "plain",
    "falcon": "plain",
    "gpt2": "plain",
    "mamba2": "plain",
    "lfm2": "plain",
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("architectures"))


@pytest.mark.parametrize("model_type", IMPORTANT)
@pytest.mark.parametrize("objective", ["classify", pytest.param("sft", marks=pytest.mark.slow)])
def test_an_architecture_trains_and_goes_the_fastest_way_that_is_exact(
    checkpoints, model_type, objective
):
    found = outcome(checkpoints(model_type), objective, "float32")
    assert found.way == IMPORTANT[model_type], found.words
    assert float(found.words) < 1e-5


@pytest.mark.parametrize("model_type", ["modernbert", "deberta-v2"])
def test_an_encoder_classifies_and_refuses_sft_in_words(checkpoints, model_type):
    assert outcome(checkpoints(model_type), "classify", "float32").way == "plain"
    refused = outcome(checkpoints(model_type), "sft", "float32")
    assert refused.way == "refused" and "is an encoder" in refused.words


def test_a_model_that_sees_padding_is_computed_without(checkpoints, capsys):
    assert Tried(checkpoints("convbert")).way == "alone"
    said = capsys.readouterr().out
    assert "The plain way does not compute what transformers does (as_transformers" in said
    assert Tried(checkpoints("convbert"), dtype="bfloat16").way == "alone"


@pytest.mark.slow
@pytest.mark.parametrize("model_type", [name for kind in KINDS.values() for name in kind()])
def test_every_architecture_is_right_or_refused_in_words(model_type):
    found = outcomes(model_type)
    assert len(found) == len(COMBINATIONS)
    assert {o.way for o in found} <= {"fast", "plain", "alone", "refused", "not made"}, found


@pytest.mark.parametrize("place", ["from_pretrained", "put_on"])
def test_a_full_memory_is_no_fault_of_the_backbone(checkpoints, monkeypatch, place):
    def full(*_, **__):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")

    owner = LlamaForCausalLM if place == "from_pretrained" else packed
    monkeypatch.setattr(owner, place, full)
    with pytest.raises(RuntimeError, match="ALLOC_FAILED"):
        Tried(checkpoints("llama"))


# The catalogue: a fault in the fast way. `auto` ends in a right result, `fast` in a gate's name.


def found_in_the_fast_way(checkpoint, gate: str, **kwargs: str) -> None:
    """Assert that a gate finds the fault, and that the plain way is taken."""
    with pytest.raises(UserError, match=f"train.way is fast.*{gate}.* Set it to auto"):
        Tried(checkpoint, "fast", **kwargs)
    assert Tried(checkpoint, **kwargs).way == "plain"


def attention_without(monkeypatch, name: str) -> None:
    """Plant packed attention that swallows one of its arguments."""

    def swallowing(*args, **kwargs):
        return packed_attention(*args, **(kwargs | {name: None}))

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, PACKED, swallowing)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_sinks_are_swallowed(checkpoints, monkeypatch, dtype):
    attention_without(monkeypatch, "s_aux")
    found_in_the_fast_way(checkpoints("gpt_oss"), "exact", dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_window_lives_in_the_mask_alone(checkpoints, monkeypatch, dtype):
    attention_without(monkeypatch, "sliding_window")
    found_in_the_fast_way(checkpoints("gemma3"), "exact", dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("model_type", ["lfm2", "jamba", "qwen3_5"])
def test_a_state_runs_over_the_examples_of_a_row(checkpoints, model_type, dtype):
    found_in_the_fast_way(checkpoints(model_type), "neighbours", dtype=dtype)


def test_a_scale_of_the_logits_is_left_out(checkpoints, monkeypatch):
    def unscaled(base, whole, input_ids, position_ids, lengths, longest, bounds, **_):
        where = packed.segments(lengths, longest, bounds, base.config)
        row = {"input_ids": input_ids, "position_ids": position_ids, "segments": where}
        return base.lm_head(backbone(base)(**row, use_cache=False).last_hidden_state)[0]

    monkeypatch.setattr(packed, "_forward", unscaled)
    found_in_the_fast_way(checkpoints("granite"), "as_transformers", objective="sft")


# The catalogue: a fault in the checkpoint or in what stands under both ways. No way is taken.

WAYS = ("auto", "fast", "plain")


def refused(checkpoint, words: str, **kwargs: str) -> None:
    """Assert that every way ends in words."""
    for which in WAYS:
        with pytest.raises(UserError, match=re.escape(words)):
            Tried(checkpoint, which, **kwargs)


def test_a_tensor_is_missing(checkpoints):
    name = "model.layers.0.mlp.up_proj.weight"
    refused(checkpoints.changed("llama", lambda tensors: tensors.pop(name)), f"lacks {name}")


def test_a_tensor_has_another_shape(checkpoints):
    name = "model.layers.0.mlp.up_proj.weight"

    def cut(tensors):
        tensors[name] = tensors[name][:-1].clone()

    refused(checkpoints.changed("llama", cut), f"in another shape {name}")


def test_a_layer_too_many(checkpoints):
    name = "model.layers.2.mlp.up_proj.weight"

    def add(tensors):
        tensors[name] = torch.zeros(2, 2)

    refused(checkpoints.changed("llama", add), f"has beside the model's {name}")


def test_a_checkpoint_without_a_vocabulary_head_serves_classify_alone(checkpoints):
    checkpoint = checkpoints.changed("llama", lambda tensors: tensors.pop("lm_head.weight"))
    refused(checkpoint, "lacks lm_head.weight", objective="sft")
    assert Tried(checkpoint).way == "fast"


def test_a_reward_model_is_no_language_model(checkpoints):
    def reward(tensors):
        tensors["score.weight"] = tensors.pop("lm_head.weight")[:1].clone()

    checkpoint = checkpoints.changed(
        "llama", reward, architectures=["LlamaForSequenceClassification"]
    )
    refused(
        checkpoint, "lacks lm_head.weight; it has beside the model's score.weight", objective="sft"
    )


def test_an_encoder_may_have_a_head_for_words_but_no_layer_too_many(checkpoints):
    with safe_open(checkpoints("bert") / "model.safetensors", "pt") as stored:
        assert any(name.startswith("cls.") for name in stored.keys())  # noqa: SIM118
    assert Tried(checkpoints("bert")).way == "plain"
    name = "bert.encoder.layer.2.output.dense.weight"

    def add(tensors):
        tensors[name] = torch.zeros(2, 2)

    refused(checkpoints.changed("bert", add), f"has beside the model's {name}")


@pytest.mark.parametrize("which", WAYS)
def test_experts_are_left_unquantised(checkpoints, monkeypatch, which):
    monkeypatch.setattr(stock, "quantise_the_rest", lambda *_: None)
    found = outcome(checkpoints("qwen3_moe"), "classify", "float32", which)
    assert found.way == "refused" and "base_quantised" in found.words


def plant(monkeypatch, change) -> None:
    """Change every model as transformers loads it, before anything looks at it."""
    load = stock.text_part

    def changed(model):
        model = load(model)
        change(model)
        return model

    monkeypatch.setattr(stock, "text_part", changed)


def after_each_layer(model, work) -> None:
    for layer in decoder_layers(model):
        layer.register_forward_hook(lambda layer, _, hidden: work(layer, hidden))


def test_a_state_runs_from_one_pass_to_the_next(checkpoints, monkeypatch):
    def remember(layer, hidden):
        before = getattr(layer, "kept", 0.0)
        layer.kept = hidden.mean().item()
        return hidden + before

    plant(monkeypatch, lambda model: after_each_layer(model, remember))
    for which in ("auto", "plain"):
        with pytest.raises(GateFailed, match="repeatable"):
            Tried(checkpoints("llama"), which)


def test_training_mode_draws_at_random(checkpoints, monkeypatch):
    def noisy(layer, hidden):
        return hidden + 0.1 * torch.randn_like(hidden) if layer.training else hidden

    plant(monkeypatch, lambda model: after_each_layer(model, noisy))
    for which in ("auto", "plain"):
        with pytest.raises(GateFailed, match="training_mode"):
            Tried(checkpoints("llama"), which)


def test_the_dropout_of_an_architecture_is_off(checkpoints):
    checkpoint = checkpoints.changed("gpt2", lambda _: None, resid_pdrop=0.5, attn_pdrop=0.5)
    tried = Tried(checkpoint)
    kept = {m.p for m in tried.model.modules() if isinstance(m, nn.Dropout)}
    assert kept == {0.0}


@pytest.mark.parametrize(("model_type", "recomputed"), [("gpt2", 2), ("git", 0)])
def test_layers_whose_code_forbids_it_are_not_recomputed(
    checkpoints, tmp_path, model_type, recomputed
):
    shipped = params("classify", "float32", "plain")
    train = shipped.train.model_copy(update={"gradient_checkpointing": 1})
    wanted = shipped.model_copy(update={"train": train})
    found = fold(checkpoints(model_type), wanted, tmp_path)
    assert found["memory"].startswith(f"{recomputed} of 2 layers recomputed")


def test_a_layer_ignores_its_adapter(checkpoints, monkeypatch):
    def past(model):
        layer = decoder_layers(model)[0].mlp
        down = layer.down_proj
        layer.forward = lambda x: down(layer.act_fn(layer.gate_proj(x)) * layer.up_proj(x))

    plant(monkeypatch, past)
    found = outcome(checkpoints("llama"), "classify", "float32")
    assert found.way == "refused" and "gradients: found 2 of" in found.words
