"""Several processes train as one does: on the CPU, by gloo, where GPUs would take NCCL."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file

from stages.config.params import Params
from stages.training.fold import Trained, train_fold
from tests.support import forked
from tests.support.battles import make_battles
from tests.support.gpus import pretend_gpus
from tests.support.places import REPO
from tests.support.workspace import Workspace

LOGITS = [f"{order}_{name}" for order in ("ab", "ba") for name in ("a", "b", "tie")]


def prepared(path: Path, checkpoint: Path) -> Workspace:
    """12 battles to train on in steps of 11 and 1: with 2 processes, one has none in the second."""
    path.mkdir()
    workspace = Workspace(path, checkpoint, make_battles())
    workspace.raw["scales"]["smoke"] |= {"batch_size": 11, "epochs": 3}
    workspace.write_params()
    return workspace


@pytest.fixture
def workspace(tmp_path, tiny, monkeypatch) -> Workspace:
    """On a machine that seems to have two GPUs; torch finds none, and trains on the CPU."""
    pretend_gpus(tmp_path, monkeypatch)
    return prepared(tmp_path / "workspace", tiny())


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny) -> Trained:
    """The same fold, trained by one process."""
    folder = tmp_path_factory.mktemp("alone")
    workspace = prepared(folder / "workspace", tiny())
    return in_this_process(workspace, tiny(), folder / "state")


def in_this_process(workspace: Workspace, checkpoint: Path, folder: Path) -> Trained:
    battles = pd.read_parquet(workspace.path / "data/prepared/battles.parquet")
    battles["fold"] = pd.read_parquet(workspace.path / "data/folds/folds.parquet").fold
    params, held_out = Params.model_validate(workspace.raw), battles.fold == 0
    return train_fold(checkpoint, battles[~held_out], battles[held_out], params, folder)


def assert_same(workspace: Workspace, alone: Trained) -> None:
    predictions = workspace.predictions()
    assert predictions.id.tolist() == alone.predictions.id.tolist()
    np.testing.assert_allclose(predictions[LOGITS], alone.predictions[LOGITS], atol=1e-4)
    curves = alone.curves.reset_index(drop=True)
    pd.testing.assert_frame_equal(workspace.curves(), curves, rtol=1e-4, check_dtype=False)


def test_two_processes_train_and_predict_as_one_does(workspace, alone, monkeypatch):
    monkeypatch.setenv("GPUS", "2")
    output = workspace.run("train", "0")
    assert_same(workspace, alone)
    assert workspace.summary()["processes"] == 2
    assert workspace.summary()["tokens_seen"] == alone.summary["tokens_seen"]
    assert output.count("gates passed") == 1, "one process speaks"
    assert not list((workspace.path / ".state/checkpoints").glob("*/")), "checkpoints are cleared"


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("2", "1"), ("1", "2")])
def test_killed_it_goes_on_with_another_number_of_processes(
    workspace, alone, monkeypatch, before, after
):
    monkeypatch.setenv("GPUS", before)
    workspace.kill_after(2, "train", "0")
    monkeypatch.setenv("GPUS", after)
    assert "going on from step" in workspace.run("train", "0")
    assert_same(workspace, alone)


@pytest.mark.slow
def test_processes_end_when_their_launcher_is_killed(workspace, monkeypatch):
    monkeypatch.setenv("GPUS", "2")
    workspace.raw["scales"]["smoke"] |= {"epochs": 1000}  # so that it is not over by then
    workspace.write_params()
    launcher = workspace.start("train", "0", forks=False)
    while not list((workspace.path / ".state/checkpoints").glob("*/checkpoint-*")):
        assert launcher.poll() is None, launcher.communicate()[0]
    started = psutil.Process(launcher.pid).children()
    assert len(started) == 2
    launcher.kill()
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive, "its GPUs are free to take now"
    launcher.communicate()


@pytest.mark.slow
def test_what_stops_all_is_told_once(workspace, monkeypatch):
    monkeypatch.setenv("GPUS", "2")
    workspace.raw["backbones"]["llama"]["small"] |= {"lr": 1e30}
    workspace.write_params()
    process = workspace.start("train", "0")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert output.count("training_loss: found") == 1
    assert "Traceback" not in output


@pytest.mark.slow
def test_with_its_base_in_shards_it_trains_as_with_a_whole_one(workspace, alone, monkeypatch):
    monkeypatch.setenv("GPUS", "2")
    monkeypatch.setenv("SHARD", "1")
    workspace.run("train", "0")
    assert_same(workspace, alone)
    saved = load_file(workspace.path / "models/fold-0/adapter_model.safetensors")
    trained = [p for p in alone.model.parameters() if p.requires_grad]
    assert sum(t.numel() for t in saved.values()) == sum(p.numel() for p in trained)


SHARDS = """
import sys
from pathlib import Path
import numpy as np
import torch
from stages.config.params import Params
from stages.devices import processes
from stages.model import sharding
from stages.model.passes import Compute, accumulate
from stages.training.gates.probe import probing
from stages.model.layers import decoder_layers
from stages.model.build import build
from stages.model.objective import Objective
from torch.distributed.tensor import DTensor

processes.connect()
weights, params = Path(sys.argv[1]), Params.model_validate_json(Path(sys.argv[2]).read_text())
cpu = torch.device("cpu")
compute = Compute(Objective(), cpu, torch.float32, token_budget=40)
ids, targets = [[5 + i] * (9 + 8 * i) for i in range(4)], np.eye(3)[[0, 1, 2, 0]]
for kind in ("none", "nf4"):
    quantization = params.train.quantization.model_copy(update={"type": kind})
    train = params.train.model_copy(update={"quantization": quantization})
    found = []
    for in_shards in (False, True):
        model = build(weights, train, cpu)
        if in_shards:
            sharding.shard(model, cpu)
        with probing(model):
            loss = accumulate(model, ids, targets, compute, lambda loss: loss.backward())
            trained = [p for p in model.parameters() if p.requires_grad]
            found.append([loss, *(p.grad for p in trained)])
    for whole, sharded in zip(*found, strict=True):
        torch.testing.assert_close(sharded, whole, rtol=1e-4, atol=1e-6)
    frozen = [p for p in decoder_layers(model).parameters() if not p.requires_grad]
    assert frozen and all(isinstance(p, DTensor) for p in frozen)
    kept = sum(p.to_local().numel() for p in frozen)
    assert kept <= 0.51 * sum(p.numel() for p in frozen), "this process keeps half of the layers"
    sys.stdout.write(f"{kind} is right\\n")  # in one piece: two processes write
"""


@pytest.mark.slow
def test_each_process_keeps_its_shards_of_the_base_and_computes_the_same(tmp_path, tiny, params):
    (tmp_path / "params.json").write_text(params.model_dump_json())
    (tmp_path / "shards.py").write_text(SHARDS)
    arguments = ["--module", "shards", tiny(), tmp_path / "params.json"]
    python = forked.commands() / "python"
    torchrun = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, *map(str, arguments)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("none is right") == done.stdout.count("nf4 is right") == 2


def test_float16_trains_as_float32_does(workspace, alone, tiny, tmp_path):
    workspace.raw["train"]["dtype"] = "float16"
    half = in_this_process(workspace, tiny(), tmp_path / "state")
    for column in ("training_loss", "grad_norm", "lr"):
        np.testing.assert_allclose(half.curves[column], alone.curves[column], rtol=0.05)


def test_steps_whose_float16_gradients_overflow_are_skipped(workspace, tiny, tmp_path, monkeypatch):
    workspace.raw["train"]["dtype"] = "float16"
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device: scaler(device, init_scale=2.0**23))
    curves = in_this_process(workspace, tiny(), tmp_path / "state").curves
    skipped = ~np.isfinite(curves.grad_norm.to_numpy())[:-1]
    stayed = np.diff(curves.lr) == 0
    assert skipped.any() and not skipped.all()
    np.testing.assert_array_equal(stayed, skipped, "a step that is skipped is none of the schedule")
