"""What a step keeps in memory changes no number, and is chosen so that the step fits."""

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import TrainerCallback

from stages.config.errors import UserError
from stages.config.params import Quantization
from stages.model.build import build
from stages.model.layers import decoder_layers, recompute
from stages.model.lora import dense_bytes
from stages.model.objective import Objective
from stages.model.packed import logits
from stages.model.packing import pack
from stages.model.passes import Compute, accumulate
from stages.training import fold, memory, trainer
from stages.training.fold import train_fold
from stages.training.gates.probe import probing
from tests.support.rows import Filled

CPU = torch.device("cpu")
GIB = 2**30


class Gpu:
    """A GPU's memory, as a model of so many layers would fill it."""

    def __init__(self, layers: int, base: float, token: float, capacity: float) -> None:
        self.layers, self.base, self.token, self.capacity = layers, base, token, capacity

    def needed(self, recomputed: int, tokens: int) -> int:
        kept = max(self.layers - recomputed, 1)
        return int((self.base + self.token * tokens * (kept + 0.05 * recomputed)) * GIB)

    def peak(self, recomputed: int, tokens: int) -> int | None:
        needed = self.needed(recomputed, tokens)
        return needed if needed < self.capacity * GIB else None


@pytest.mark.parametrize(
    ("capacity", "recomputed", "row_tokens"),
    [(80, 0, 8192), (40, 15, 8192), (14, 31, 8192), (9, None, 4096), (7.5, None, 2048)],
)
def test_as_few_layers_recompute_as_fit_and_rows_are_cut_only_then(
    capacity, recomputed, row_tokens
):
    gpu = Gpu(layers=32, base=6, token=1.7 / 8192, capacity=capacity)
    plan = memory.choose(gpu.peak, 32, 8192, 2048, int(0.95 * capacity * GIB))
    assert plan.row_tokens == row_tokens
    assert gpu.needed(plan.recomputed, row_tokens) <= plan.limit, "it fits"
    if recomputed is not None:
        assert abs(plan.recomputed - recomputed) <= 1
    if plan.recomputed:
        assert gpu.needed(plan.recomputed - 2, row_tokens) > plan.limit, "and no less would do"


def test_a_backbone_that_cannot_fit_is_refused_before_the_first_step():
    gpu = Gpu(layers=32, base=20, token=1.7 / 8192, capacity=16)
    with pytest.raises(UserError, match=r"2048 tokens needs more than there is .* 15\.2 GiB"):
        memory.choose(gpu.peak, 32, 8192, 2048, int(0.95 * 16 * GIB))


@pytest.mark.parametrize(("room", "kept"), [(0.5, 0), (1.5, 1), (9, 2)])
def test_what_is_left_holds_de_quantised_weights_of_as_many_layers_as_fit(tiny, params, room, kept):
    quantised = params.train.model_copy(
        update={"quantization": Quantization(type="nf4", double=True)}
    )
    model = build(tiny(), quantised, CPU)
    compute = Compute(Objective(), CPU, torch.float32, 256)
    layer = dense_bytes(decoder_layers(model)[0], torch.float32)
    limit = int(10 * GIB)
    peak = int(memory.DENSE * limit) - int(room * layer)
    plan = memory.keep_weights(model, compute, memory.Plan(256, 0, 2, peak, limit))
    assert (plan.dense, plan.peak) == (kept, peak + kept * layer)
    held = [m.dense is not None for m in model.modules() if hasattr(m, "dense")]
    assert sum(held) == kept * len(held) / 2
    assert (f"weights of {kept} layers kept" in str(plan)) == (kept > 0)


def test_on_the_cpu_they_fill_a_gibibyte_at_most(tiny, params, monkeypatch):
    compute = Compute(Objective(), CPU, torch.float32, 256)
    model = build(tiny(), params.train, CPU)
    layer = dense_bytes(decoder_layers(model)[0], torch.float32)
    monkeypatch.setattr(memory, "ON_CPU", int(1.5 * layer))
    plan = memory.fit(model, compute, "auto", 256)
    assert (plan.dense, plan.peak, plan.limit) == (1, 0, 0)


def kept(model, row) -> int:
    """Bytes that a forward pass keeps for the backward pass, weights apart."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found = {}

    def pack_(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack_, lambda tensor: tensor):
        logits(model, row)
    return sum(found.values())


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gemma3", "qwen2"])
def test_recomputing_keeps_less_and_gives_the_same_gradients(tiny, params, architecture):
    model = build(tiny(architecture), params.train, CPU).train()
    (row,) = pack([[i + 2] * (3 + 9 * i) + [5, 6] for i in range(5)], 1000)
    sizes, grads = [], []
    with probing(model):
        for count in (0, 1, 2):
            recompute(model, count)
            sizes.append(kept(model, row))
            model.zero_grad()
            logits(model, row).square().sum().backward()
            grads.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
    assert sizes[0] > 1.3 * sizes[1] > 1.3 * sizes[2]
    for plain, one, both in zip(*grads, strict=True):
        torch.testing.assert_close(plain, one, atol=0, rtol=0)
        torch.testing.assert_close(plain, both, atol=0, rtol=0)


def train(params, tiny, battles, folder):
    folder.mkdir()
    battles = battles.assign(fold=np.repeat([1, 0], [16, 8]))
    return train_fold(tiny(), battles[:16], battles[16:], params, folder).predictions


@pytest.mark.parametrize(
    ("times", "error"),
    [
        (1, torch.OutOfMemoryError("CUDA out of memory")),
        (1, RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")),
        (2, torch.OutOfMemoryError("CUDA out of memory")),
    ],
    ids=["once", "cublas", "twice"],
)
def test_out_of_memory_a_step_is_taken_again_with_all_recomputed_and_then_refused(
    params, tiny, battles, tmp_path, monkeypatch, capsys, times, error
):
    calls = []

    def limited(*args):
        loss = accumulate(*args)
        calls.append(loss)
        if len(calls) in range(3, 3 + times):  # with gradients half added up
            raise error
        return loss

    whole = train(params, tiny, battles, tmp_path / "whole") if times == 1 else None
    monkeypatch.setattr(trainer, "accumulate", limited)
    capsys.readouterr()
    if times == 2:
        with pytest.raises(UserError, match="at step 3 with every layer recomputed: lower"):
            train(params, tiny, battles, tmp_path / "limited")
        return
    pd.testing.assert_frame_equal(train(params, tiny, battles, tmp_path / "limited"), whole)
    assert "out of memory at step 3: from here on every layer is" in capsys.readouterr().out


class Pausing(TrainerCallback):
    """Takes its time in every step, and wherever an epoch is measured."""

    in_steps, elsewhere = 0.0, 0.0

    def on_pre_optimizer_step(self, *_, **__):
        time.sleep(0.05)
        self.in_steps += 0.05

    def on_log(self, *_, **__):
        time.sleep(0.2)
        self.elsewhere += 0.2


def test_the_seconds_of_a_training_are_those_of_all_that_its_steps_do(
    params, tiny, battles, tmp_path
):
    pausing, start = Pausing(), time.perf_counter()
    battles = battles.assign(fold=np.repeat([1, 0], [16, 8]))
    trained = train_fold(tiny(), battles[:16], battles[16:], params, tmp_path, [pausing])
    seconds = trained.summary["train_seconds"]
    assert pausing.in_steps > 0.1 and pausing.elsewhere > 0.3
    assert pausing.in_steps < seconds < time.perf_counter() - start - pausing.elsewhere


class Recording(Filled):
    """Stands where a Recorder would that has not stopped yet."""

    recording = True

    def stop(self) -> bool:
        recorded, self.recording = self.recording, False
        return recorded


def test_out_of_memory_recorded_passes_are_given_up_first(
    params, tiny, battles, tmp_path, monkeypatch, capsys
):
    whole = train(params, tiny, battles, tmp_path / "whole")
    make_fast, recorder, calls = fold.make_fast, Recording(), []

    def recorded(*args):
        compute, *others = make_fast(*args)
        return replace(compute, recorder=recorder), *others

    def limited(*args):
        calls.append(accumulate(*args))
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return calls[-1]

    monkeypatch.setattr(fold, "make_fast", recorded)
    monkeypatch.setattr(trainer, "accumulate", limited)
    capsys.readouterr()
    found = train(params, tiny, battles, tmp_path / "limited")
    pd.testing.assert_frame_equal(found, whole, atol=1e-4, rtol=1e-3)
    out = capsys.readouterr().out
    assert "out of memory at step 3: from here on passes are not recorded" in out
    assert "recomputed" not in out.split("step 3")[1] and not recorder.recording


@pytest.mark.parametrize(("wanted", "recomputed"), [("auto", 0), (1, 1), (99, 2)])
def test_on_the_cpu_the_param_decides(tiny, params, wanted, recomputed):
    model = build(tiny(), params.train, CPU)
    compute = Compute(Objective(), CPU, torch.float32, 256)
    plan = memory.fit(model, compute, wanted, max_tokens=128)
    assert (plan.recomputed, plan.row_tokens) == (recomputed, 256)
    kept = "" if recomputed else ", weights of 2 layers kept de-quantised"
    assert str(plan) == f"{recomputed} of 2 layers recomputed, rows of 256 tokens{kept}"
    layers = model.get_base_model().base_model.layers
    assert [layer.recomputed for layer in layers] == [n < recomputed for n in range(2)]
