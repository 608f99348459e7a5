"""One fold as its stage runs it: it learns, survives a kill, and its adapter stands alone."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from stages.training.checkpoints import writing
from tests.support import forked
from tests.support.absent import without
from tests.support.battles import make_battles
from tests.support.places import REPO
from tests.support.votes import with_votes
from tests.support.workspace import Workspace


@pytest.fixture
def workspace(tmp_path, tiny, battles) -> Workspace:
    return Workspace(tmp_path, tiny(), battles)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny) -> Workspace:
    """A run that nobody stopped."""
    workspace = Workspace(tmp_path_factory.mktemp("whole"), tiny(), make_battles())
    workspace.output = workspace.run("train", "0")
    return workspace


def test_the_core_can_be_used_where_dvc_mlflow_optuna_and_pandera_are_not():
    code = without("dvc", "mlflow", "optuna", "pandera") + "import stages.training.run"
    subprocess.run([forked.commands() / "python", "-c", code], cwd=REPO, check=True)


def test_without_its_inputs_it_says_what_makes_them(workspace):
    (workspace.path / "data/folds/folds.parquet").unlink()
    process = workspace.start("train", "0")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "Traceback" not in output
    expected = "folds.parquet not found: run `dvc repro prepare split weights` first"
    assert expected in output


@pytest.mark.rounding
def test_a_fold_leaves_predictions_in_both_orders_curves_and_its_cost(whole):
    predictions = whole.predictions()
    folds = pd.read_parquet(whole.path / "data/folds/folds.parquet")
    assert sorted(predictions.id) == sorted(folds.id[folds.fold == 0])
    logits = predictions[[f"{o}_{c}" for o in ("ab", "ba") for c in ("a", "b", "tie")]]
    assert np.isfinite(logits.to_numpy()).all()
    ab, ba = np.split(logits.to_numpy(), 2, axis=1)
    assert (ab != ba).any(), "both orders are computed"

    curves = whole.curves()
    assert curves.training_loss.notna().sum() == 6
    assert curves[curves.validation_loss.notna()].epoch.tolist() == [1.0, 2.0]
    summary = whole.summary()
    assert summary["first_loss"] == pytest.approx(np.log(3), abs=1e-3)
    assert {gate["name"] for gate in summary["gates"]} >= {"as_transformers", "adapter_moved"}
    assert all(gate["passed"] for gate in summary["gates"])
    assert summary["steps"] == 6 and summary["tokens_seen"] > 0
    assert not list((whole.path / ".state/checkpoints").glob("*/")), "checkpoints are cleared"
    for noise in ("remaining", "Traceback", "kernels-community"):
        assert noise not in whole.output


@pytest.mark.rounding
def test_killed_and_started_again_it_ends_as_if_never_stopped(whole, workspace):
    workspace.kill_after(2, "train", "0")
    assert not (workspace.path / "metrics/folds/fold-0.json").exists()
    output = workspace.run("train", "0")
    assert "going on from step 2" in output or "going on from step 4" in output
    pd.testing.assert_frame_equal(workspace.predictions(), whole.predictions())
    pd.testing.assert_frame_equal(workspace.curves(), whole.curves())


@pytest.fixture(scope="module")
def killed(tmp_path_factory, tiny) -> Workspace:
    """A run that was killed, and left a checkpoint."""
    workspace = Workspace(tmp_path_factory.mktemp("killed"), tiny(), make_battles())
    workspace.kill_after(2, "train", "0")
    return workspace


@pytest.mark.parametrize("change", ["fold", "data", "params", "backbone"])
def test_another_run_never_takes_up_that_checkpoint(killed, tmp_path, tiny, change):
    workspace = killed.copied(tmp_path / "copy")
    fold = "0"
    if change == "fold":
        fold = "1"
    elif change == "data":
        file = workspace.path / "data/prepared/battles.parquet"
        battles = pd.read_parquet(file)
        battles.loc[0, ["target_a", "target_b"]] = 0.5
        battles.to_parquet(file)
    elif change == "params":
        workspace.raw["train"]["optimizer"]["weight_decay"] = 0.02
        workspace.write_params()
    else:
        workspace.raw["backbones"]["llama"]["small"]["folder"] = str(tiny("gemma3"))
        workspace.write_params()
        workspace.run("weights")
    output = workspace.run("train", fold)
    assert "going on from" not in output


def test_a_checkpoint_cut_short_by_the_kill_is_passed_over(whole, workspace):
    workspace.kill_after(4, "train", "0")
    (folder,) = (workspace.path / ".state/checkpoints").glob("*/")
    newest = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    state = newest / "trainer_state.json"
    state.write_text(state.read_text(encoding="utf-8")[:100], encoding="utf-8")
    workspace.run("train", "0")
    pd.testing.assert_frame_equal(workspace.predictions(), whole.predictions())


@pytest.mark.slow
def test_on_a_full_disk_it_says_so_takes_no_room_and_loses_no_step(whole, workspace):
    workspace.kill_after(2, "train", "0")
    (folder,) = (workspace.path / ".state/checkpoints").glob("*/")
    shutil.rmtree(folder / "checkpoint-4", ignore_errors=True)  # if the kill came late
    adapter = (whole.path / "models/fold-0/adapter_model.safetensors").stat().st_size
    full = workspace.start("train", "0", largest_file=adapter + 1000)  # less than AdamW's state
    output, _ = full.communicate(timeout=300)
    assert full.returncode == 1 and "Traceback" not in output
    told = r"the checkpoint of step 4 could not be written to /.*, where [\d,]+ MiB were free: make"
    assert re.search(f"error: {told} room", output)
    assert [path.name for path in folder.iterdir()] == ["checkpoint-2"]
    assert "going on from step 2" in workspace.run("train", "0")
    pd.testing.assert_frame_equal(workspace.predictions(), whole.predictions())
    pd.testing.assert_frame_equal(workspace.curves(), whole.curves())


def test_a_training_that_has_ended_is_not_repeated_since_its_outs_found_no_room(whole, workspace):
    full = workspace.path / "data/predictions/fold-0.parquet"
    full.parent.mkdir()
    full.symlink_to("/dev/full")
    process = workspace.start("train", "0")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "error: what fold 0 has learned could not be" in output
    full.unlink()
    assert "going on from step 6" in workspace.run("train", "0")
    pd.testing.assert_frame_equal(workspace.predictions(), whole.predictions())
    pd.testing.assert_frame_equal(workspace.curves(), whole.curves())


def test_a_training_that_has_ended_needs_no_room_for_its_last_checkpoint(whole, workspace):
    workspace.raw["train"]["save_steps"] = 20
    workspace.write_params()
    adapter = (whole.path / "models/fold-0/adapter_model.safetensors").stat().st_size
    full = workspace.start("train", "0", largest_file=adapter + 1000)
    output, _ = full.communicate(timeout=300)
    assert full.returncode == 0 and "the checkpoint of step 6 could not be written" in output
    pd.testing.assert_frame_equal(workspace.predictions(), whole.predictions())


def test_what_is_no_failure_to_write_is_not_called_one(tmp_path):
    with pytest.raises(RuntimeError, match="device-side"), writing("the checkpoint", tmp_path):
        raise RuntimeError("CUDA error: device-side assert triggered")


@pytest.mark.parametrize("objective", ["classify", "sft"])
def test_where_only_votes_from_elsewhere_are_ties_there_are_two_classes(workspace, objective):
    """Battles 12 to 23 are only trained on; 12 and 13 share a prompt with held-out ones."""
    workspace.raw["train"]["objective"] = objective
    workspace.write_params()
    battles, folds = (
        workspace.path / f"data/{name}.parquet" for name in ("prepared/battles", "folds/folds")
    )
    votes = with_votes(pd.read_parquet(battles), [0, 1] * 6 + [2] * 12)
    votes.loc[12:, "source"] = "elsewhere"
    votes.to_parquet(battles)
    groups = [f"group {i}" for i in (*range(12), 0, 1, *range(14, 24))]
    fold = [*np.arange(12) // 3 % 2, *[-1] * 12]
    pd.DataFrame({"id": votes.id, "group": groups, "fold": fold}).to_parquet(folds)
    output = workspace.run("train", "0")

    assert "10 votes are only trained on; 2 share a held-out prompt" in output
    summary, found = workspace.summary(), workspace.predictions()
    assert summary["classes"] == 2 and summary["examples"] == 6 + 10
    assert sorted(found.id) == sorted(votes.id[[0, 1, 2, 6, 7, 8]])
    logits = [column for column in found if column.startswith(("ab_", "ba_"))]
    assert logits == ["ab_a", "ab_b", "ba_a", "ba_b"]
    assert np.isfinite(found[logits].to_numpy()).all()
    (first,) = (gate for gate in summary["gates"] if gate["name"] == "first_loss")
    saved = load_file(workspace.path / "models/fold-0/adapter_model.safetensors")
    heads = [tuple(tensor.shape) for name, tensor in saved.items() if "score" in name]
    if objective == "classify":
        assert first["expected"] == "ln 2 = 0.6931" and first["value"] == "0.6931"
        assert heads == [(2, 32)]
    else:
        assert not heads


def test_a_failed_gate_ends_the_stage_with_its_name_and_no_traceback(workspace):
    weights = Path(workspace.raw["backbones"]["llama"]["small"]["folder"])
    broken = workspace.path / "broken"
    shutil.copytree(weights, broken)
    from safetensors.torch import save_file

    tensors = load_file(broken / "model.safetensors")
    tensors["model.embed_tokens.weight"][:] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    workspace.raw["backbones"]["llama"]["small"]["folder"] = str(broken)
    workspace.write_params()
    workspace.run("weights")
    process = workspace.start("train", "0")
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "finite: found" in output and "likely cause" in output
    assert "Traceback" not in output
