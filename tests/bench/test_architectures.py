"""Tiny checkpoints of published architectures: they load back whole, and hide no computation."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.architectures import page, tiny, worker
from bench.architectures.check import check, load
from bench.architectures.trial import Outcome

PICKED = [
    "bert",
    "deepseek_v3",
    "gemma3",
    "gemma3n",
    "gemma4",
    "gpt2",
    "gpt_oss",
    "granitemoehybrid",
    "jamba",
    "llama4",
    "mamba2",
    "mistral3",
    "modernbert",
    "qwen3_5",
]
# Types that no checkpoint of text alone can be made of, and why. A new release may bring others.
BEYOND_TEXT = {
    "drafts for another model": "gemma4_assistant gemma4_unified_assistant",
    "needs images, boxes or a robot's state": "blip blip-2 idefics instructblip instructblipvideo "
    "kosmos-2 pi0 pix2struct pp_formulanet udop vision-encoder-decoder",
    "speaks, listens or makes music": "fun_asr_nano kyutai_speech_to_text musicgen "
    "musicgen_melody nemo_speechlm qwen2_5_omni qwen3_omni_moe voxtral_realtime",
    "has no auto class that loads it": "evolla shieldgemma2",
    "needs another library": "layoutlmv2",
}


def all_types() -> list[str]:
    return [*tiny.causal_types(), *tiny.multimodal_types(), *tiny.encoder_types()]


@pytest.mark.parametrize("model_type", PICKED)
def test_a_checkpoint_loads_back_and_its_logits_depend_on_the_text(model_type, tmp_path):
    assert check(model_type, tmp_path) == "ok"


@pytest.mark.slow
def test_every_type_that_reads_text_alone_has_a_checkpoint(tmp_path):
    beyond = set(" ".join(BEYOND_TEXT.values()).split())
    outcomes = {name: check(name, tmp_path / name) for name in all_types()}
    assert {name for name, outcome in outcomes.items() if outcome != "ok"} == beyond


def test_no_type_is_listed_twice():
    assert len(all_types()) == len(set(all_types()))


def weights(folder: Path, seed: int) -> dict[str, torch.Tensor]:
    """The tensors of a tiny checkpoint, by name."""
    tiny.make("gpt_oss", folder, seed)
    return load_file(folder / "model.safetensors")


def test_the_same_seed_gives_the_same_weights(tmp_path):
    first, again = weights(tmp_path / "first", 0), weights(tmp_path / "again", 0)
    other = weights(tmp_path / "other", 1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("model_type", ["gpt_oss", "mamba2", "gemma4", "apertus"])
def test_no_tensor_is_constant(model_type, tmp_path):
    tiny.make(model_type, tmp_path)
    model, _ = load(model_type, tmp_path)
    text = [(name, w) for name, w in model.named_parameters() if w.numel() > 1]
    assert [name for name, weight in text if weight.unique().numel() == 1] == []


def test_the_page_sums_up_and_says_why_something_is_refused():
    fast, plain = Outcome("fast", "1e-07"), Outcome("plain", "0.01")
    refused, encoder = Outcome("refused", "too new"), Outcome("refused", "an encoder")
    text = page.text(
        [
            page.Row("causal", "quick", [fast] * 4),
            page.Row("causal", "half", [fast, plain, fast, refused]),
            page.Row("encoder", "both", [plain, plain, encoder, encoder]),
            page.Row("multimodal", "never", [refused] * 4),
        ]
    )
    assert "4 types: 1 fast, 2 plain, 0 alone, 1 refused" in text
    assert "| half | fast 1e-07 | plain 0.01 | fast 1e-07 | refused |" in text
    assert "- `half`, sft bfloat16: too new" in text
    assert "- `never`: too new" in text
    assert text.count("an encoder predicts no next token") == 1


@pytest.mark.slow
def test_a_type_that_ends_its_process_or_hangs_is_a_defect_and_the_next_one_is_tried(monkeypatch):
    monkeypatch.setattr(worker, "LONGEST", 0.01)
    one = worker.Worker()
    assert {o.way for o in one("llama")} == {"defect"}
    monkeypatch.setattr(worker, "LONGEST", 120)
    one._process.kill()
    assert {o.way for o in one("bart")} == {"defect"}
    assert {o.way for o in one("bart")} == {"refused"}
    one.stop()
