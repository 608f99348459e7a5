"""What a plan says of memory and speed: by hand, of measured runs, and of what does not fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import CONFIG_MAPPING

from bench import plan_check
from bench.architectures.tiny import tiny_config
from stages.config.errors import UserError
from stages.config.params import Params
from stages.planning import published
from stages.planning.checkpoint import Here, find
from stages.planning.devices import CARDS, GPUS, Device, device_for
from stages.planning.memory import GIB, plan_for, shares
from stages.planning.shape import NoShape, Shape, shape
from stages.planning.speed import FORWARD_KERNELS, FP8, KERNELS, SHAPE, reckon
from stages.preflight.candidate import Candidate
from stages.training.memory import Plan
from tests.support.settings import raw_params

NOTHING = {"layers": 4, "hidden": 100, "matrices": 0, "rest": 0, "on_disk": 0, "active": 0.0}
NOTHING |= {"trained": 0, "kept": 0.0, "queries": 0, "head": 64, "way": "fast"}
ROUND = Device("round", tflops=100, memory=16, bandwidth=1.0)


def sized(**sizes: object) -> Shape:
    """A shape that has these sizes and nothing else."""
    return Shape(**NOTHING | sizes)


def at_scale(scale: str = "full", **train: object) -> Params:
    raw = raw_params()
    raw["train"] |= train
    return Params.model_validate(raw | {"scale": scale})


# Shapes


def test_the_shape_of_a_checkpoint_is_that_of_its_model(tiny, params):
    # Of a layer: queries 32 → 32, keys and values 32 → 16, output 32 → 32, MLP 32 → 64 and back.
    found = shape(Candidate(tiny("llama"), "tiny", params))
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64
    assert (found.layers, found.hidden, found.head, found.queries) == (2, 32, 16, 2 * 32)
    assert found.matrices == found.active == 2 * layer
    adapter = 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    assert found.trained == 2 * adapter + 3 * 32
    outputs, inputs = 32 + 16 + 16 + 32 + 64 + 64 + 32, 32 + 32 + 32 + 64
    assert found.kept == outputs + inputs
    assert found.way == "fast"


def test_further_norms_keep_their_inputs(tiny, params):
    plain, gemma2 = (
        shape(Candidate(tiny(name), name, params)).kept for name in ("llama", "gemma2")
    )
    assert gemma2 == plain + 2 * 32
    # Gemma 3 also has norms of its queries, 32 wide, and keys, 16 wide.
    assert shape(Candidate(tiny("gemma3"), "gemma3", params)).kept == gemma2 + 32 + 16


@pytest.mark.parametrize(
    ("name", "way", "active"),
    [("Llama-3.1-8B", "fast", 6.98e9), ("gpt-oss-20b", "experts", 3.0e9)],
)
def test_a_published_shape_needs_no_files(tmp_path, params, name, way, active):
    published.configuration(name).save_pretrained(tmp_path)
    found = shape(Candidate(tmp_path, name, params))
    assert found.way == way and found.active == pytest.approx(active, rel=0.02)


@pytest.mark.parametrize(
    ("model_type", "way"),
    [("gpt2", "plain"), ("mamba", "plain"), ("gemma4_text", "fast"), ("mixtral", "experts")],
)
def test_layers_may_be_built_otherwise(tmp_path, params, model_type, way):
    tiny_config(CONFIG_MAPPING[model_type]).save_pretrained(tmp_path)
    found = shape(Candidate(tmp_path, model_type, params))
    assert found.way == way and found.active > 0 and found.kept > 0 and found.trained > 0


def test_a_checkpoint_of_which_no_shape_is_seen_is_told_in_words(tmp_path, params):
    tiny_config(CONFIG_MAPPING["blt"]).save_pretrained(tmp_path)
    with pytest.raises(NoShape, match="how large maker/blt is: a blt is built otherwise"):
        shape(Candidate(tmp_path, "maker/blt", params))


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama-3.1-8B"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "Llama-3.1-8B"),
        ("google/gemma-3-12b-it", "Gemma-3-12B"),
        ("google/gemma-3-1b-it", "Gemma-3-1B"),
        ("gemma-3-270m-q4_k_m", "Gemma-3-270M"),
        ("Qwen/Qwen2.5-Coder-7B-Instruct", "Qwen2.5-7B"),
        ("Qwen/Qwen2.5-Math-7B", None),
    ],
)
def test_a_checkpoint_is_known_by_its_name(checkpoint, name):
    assert published.shape_of(checkpoint) == name


def test_what_is_in_a_folder_is_taken_before_what_is_published(tiny, params):
    raw = params.model_dump()
    rates = {"lr": 1e-4, "head_lr": 1e-4}
    raw["backbones"]["llama"]["small"] = {"folder": str(tiny()), "name": "Llama-3.1-8B", **rates}
    found = find(Params.model_validate(raw).checkpoint)
    assert found == Here("Llama-3.1-8B", Path(tiny()), True)
    raw["backbones"]["llama"]["small"]["folder"] = "/nowhere"
    found = find(Params.model_validate(raw).checkpoint)
    assert found == Here("Llama-3.1-8B", None, False, "Llama-3.1-8B")


# Memory


def test_what_stands_in_memory_by_hand():
    params = at_scale(quantization={"type": "nf4", "double": True})
    sizes = sized(matrices=1000 * GIB // 1000, rest=GIB // 4, trained=GIB // 16)
    found = shares(sizes, params, Plan(6144, 0, 4, peak=3 * GIB))
    assert found["matrices"] / GIB == 0.5 + 1 / 64  # 4 bits, and a byte for 64 of them
    assert found["other_weights"] / GIB == 0.5  # bfloat16
    assert found["adapter"] / GIB == found["optimiser"] / GIB == 0.5  # float32, two numbers each
    assert sum(found.values()) == 3 * GIB


def test_a_smaller_gpu_recomputes_more_then_has_shorter_rows_then_is_refused():
    llama = plan_check.shape_of(plan_check.MEASURED[0])
    plans = [
        plan_for(llama, at_scale(), replace(GPUS["h100"], memory=gib)) for gib in (79, 32, 24, 11)
    ]
    recomputed = [plan.recomputed for plan in plans]
    assert recomputed == sorted(recomputed) and recomputed[0] == 0 < recomputed[1]
    assert [plan.row_tokens for plan in plans[:3]] == [6144] * 3 and plans[3].row_tokens < 6144
    assert all(plan.peak <= plan.limit for plan in plans)
    with pytest.raises(UserError, match=r"one example of 2048 tokens needs .* lower the scale's"):
        plan_for(llama, at_scale(), replace(GPUS["h100"], memory=7))


def test_a_wanted_number_of_layers_is_kept_or_refused():
    llama = plan_check.shape_of(plan_check.MEASURED[0])
    wanted = at_scale(gradient_checkpointing=7)
    assert plan_for(llama, wanted, GPUS["h100"]).recomputed == 7
    with pytest.raises(UserError, match=r"7 layers recomputed.*set train\.gradient_checkpointing"):
        plan_for(llama, wanted, GPUS["l4"])


# Speed


def test_the_speed_by_hand():
    plan, params = Plan(1000, 0, 4), {"device": ROUND, "span": 50, "batch": 5000}

    def speed(**sizes: float) -> tuple[float, float]:
        """Without what four layers take of each row; those of a prediction are twice as long."""
        found = reckon(sized(**sizes), plan=plan, **params)
        return found.training - KERNELS * 4 / 1000, found.held_out - FORWARD_KERNELS * 4 / 2000

    # 2 FLOPs a weight at 64 % of 100 TFLOP/s, and as many backward.
    assert speed(active=3e9) == pytest.approx((4 * 3e9 / 64e12, 2 * 3e9 / 64e12))
    # 4 FLOPs for each of 50 tokens and 17 numbers of queries, at 17 %; 2.5 times that backward.
    forward = 4 * 50 * 17 / 17e12
    assert speed(queries=17) == pytest.approx((3.5 * forward, forward))
    # 5.4 times 2 bytes of 10 numbers in 4 layers, at 1 TB/s; a third of that without gradients.
    moved = 5.4 * 2 * 10 * 4 / 1e12
    assert speed(kept=10.0) == pytest.approx((moved, moved / 3))
    # 2.5 bytes a weight for each row of 1,000 tokens, twice; once for rows twice as long.
    dense = 2.5 * 1000 / 1000 / 1e12
    assert speed(matrices=1000) == pytest.approx((2 * dense, dense / 2))
    assert reckon(sized(), plan=plan, **params).shape == SHAPE * sized().layers


def test_products_in_fp8_are_faster_in_training_and_need_no_de_quantising():
    some, plan = sized(active=3e9, matrices=1000), Plan(1000, 0, 4)
    plain, fp8 = (reckon(some, ROUND, plan, 50, 5000, wanted) for wanted in (False, True))
    kernels = KERNELS * 4 / 1000
    assert fp8.training == pytest.approx(4 * 3e9 / 64e12 / FP8 + kernels)
    assert fp8.held_out == plain.held_out


def test_rows_of_a_training_are_no_longer_than_a_batch():
    long, short = (reckon(sized(), ROUND, Plan(1000, 0, 4), 50, batch) for batch in (5000, 500))
    assert short.training == pytest.approx(2 * long.training)
    assert short.held_out == long.held_out


def test_a_recomputed_layer_computes_its_forward_pass_again():
    some = sized(active=3e9)
    kept, half = (reckon(some, ROUND, Plan(1000, n, 4), 50, 5000) for n in (0, 2))
    assert half.training - kept.training == pytest.approx(kept.held_out / 2, rel=0.01)
    assert half.held_out == kept.held_out


def test_the_range_is_wider_where_nothing_was_checked():
    plan, some = Plan(1000, 0, 4), sized(active=3e9)
    errors = [reckon(some, GPUS[name], plan, 50, 5000).error for name in ("h100", "a100", "t4")]
    assert errors == sorted(errors) and len(set(errors)) == 3
    assert reckon(replace(some, way="plain"), GPUS["h100"], plan, 50, 5000).error == errors[2]


# Measured runs


@pytest.mark.parametrize("row", plan_check.MEASURED, ids=lambda row: f"{row.name}-{row.memory}")
def test_a_measured_run_is_expected_within_a_fifth_and_within_the_range(row):
    plan, speed = plan_check.expected(row)
    rates = plan_check.rates(row, speed)
    for expected, measured in zip(rates, (row.training, row.held_out), strict=True):
        assert measured is None or expected == pytest.approx(measured, rel=0.2)
        assert measured is None or 1 / (1 + speed.error) < measured / expected < 1 + speed.error
    assert row.peak is None or plan.peak / GIB == pytest.approx(row.peak, rel=0.2)
    assert row.recomputed is None or abs(plan.recomputed - row.recomputed) <= 2


@pytest.mark.parametrize(("name", "peak"), [("SmolLM2-135M", 2.55), ("Gemma-3-270M", 3.05)])
def test_the_recorded_runs_memory_on_a_cpu_is_expected_within_a_fifth(monkeypatch, name, peak):
    monkeypatch.setattr("stages.planning.memory.compute_dtype", lambda *_: torch.bfloat16)
    row = plan_check.Measured(name, "smoke", "reward")
    cpu = Device("CPU", 1.0, 16.0, 0.02, packs=False)
    plan = plan_for(plan_check.shape_of(row), plan_check.params_of(row), cpu)
    assert plan.peak / GIB == pytest.approx(peak, rel=0.2)


# Devices


def test_a_device_is_known_by_name_and_an_unknown_one_is_refused():
    assert device_for("H100") is GPUS["h100"]
    with pytest.raises(UserError, match="--device: 'h10' is not known; did you mean 'h100'"):
        device_for("h10")


def test_every_gpu_is_found_by_the_name_that_pytorch_has():
    assert set(CARDS.values()) == set(GPUS)
    names = {"NVIDIA L40S": "l40s", "NVIDIA L4": "l4", "NVIDIA A100-SXM4-40GB": "a100-40"}
    for name, key in names.items():
        assert next(CARDS[part] for part in CARDS if part in name) == key


def test_without_a_gpu_the_device_is_the_cpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = device_for(None)
    assert found.here and not found.cuda and found.memory > 1 and found.tflops > 0
