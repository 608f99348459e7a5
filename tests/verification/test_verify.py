"""Verifying a revision: real git and DVC, tiny backbones, and each way a record can be false."""

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import verify
from stages.config.errors import UserError
from stages.config.params import Params
from stages.runs.lock import hashes, md5_of, read_lock
from stages.runs.revisions import resolve
from stages.training.fold import train_fold
from stages.verification import clone as clones
from stages.verification.differences import outcomes, tolerance_for
from stages.verification.judgement import judge
from stages.verification.rerun import run_again
from tests.support import forked
from tests.support.clones import Clone, reproduced_clone


@pytest.fixture(scope="module")
def clone(tmp_path_factory, tiny) -> Clone:
    """A repository whose pipeline, less the page of charts, has run and is recorded.

    A checkpoint of another run lies where training fold 0 once more would take it up.
    """
    clone = reproduced_clone(tmp_path_factory, tiny)
    edit_yaml(clone.path / "dvc.lock", lambda lock: lock["stages"].pop("report"))
    clone.drop("report")
    plant_foreign_checkpoint(clone.path)
    return clone


@pytest.fixture(scope="module")
def again(clone, tmp_path_factory) -> tuple[Path, Path, bool]:
    """The untouched result and what running it again gives."""
    with contextlib.chdir(clone.path), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(forked.commands() / "python"))
        return run_again("HEAD", False, tmp_path_factory.mktemp("verify"))


@pytest.fixture
def branch(clone, tmp_path):
    """A branch of its own for a test that commits something else."""
    clone.git("checkout", "-qb", tmp_path.name)
    yield clone
    clone.git("checkout", "-qf", "main")


def edit_yaml(path: Path, edit) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def edit_json(path: Path, **values) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def plant_foreign_checkpoint(repository: Path) -> None:
    """Leave the last checkpoint of a run with other learning rates under fold 0's fingerprint."""
    raw = yaml.safe_load((repository / "params.yaml").read_text(encoding="utf-8"))
    backbone = raw["backbones"]["llama"]["small"]
    backbone |= {"lr": 0.05, "head_lr": 0.05}
    battles = pd.read_parquet(repository / "data/prepared/battles.parquet").merge(
        pd.read_parquet(repository / "data/folds/folds.parquet"), on="id"
    )
    summary = json.loads((repository / "metrics/folds/fold-0.json").read_text(encoding="utf-8"))
    folder = repository / ".state/checkpoints" / summary["fingerprint"][:16]
    train_fold(
        Path(backbone["folder"]),
        battles[battles.fold != 0],
        battles[battles.fold == 0],
        Params.model_validate(raw),
        folder,
    )
    assert list(folder.glob("checkpoint-*/trainer_state.json"))


def recorded_in(clone: Clone, again: Path, folder: Path) -> Path:
    """What the clone's HEAD recorded, laid out as verify does."""
    commit = resolve("HEAD", clone.path)
    clones.checkout(clone.path, commit, folder)
    clones.fetch_recorded(clone.path, commit, folder, again)
    return folder


# A whole verification


def test_an_untouched_result_is_verified_exactly(again):
    recorded, anew, ended = again
    verified, text = judge("HEAD", recorded, anew, ended, None)
    assert verified, text
    assert text.endswith(
        "Verified: run again from nothing, HEAD gives the recorded numbers exactly."
    )
    rows = dict(line.split()[:2] for line in text.splitlines() if line and line[0] != "-")
    for stage in ("prepare", "split", "baselines", "weights"):
        assert rows[stage] == "identical"
    # seconds and the base weights' place differ, nothing else
    assert rows["train@0"] == rows["train@1"] == rows["evaluate"] == "same"
    assert "not compared: models" not in text


def test_running_again_leaves_the_user_s_repository_alone(clone, again):
    status = subprocess.check_output(["git", "status", "--porcelain"], cwd=clone.path, text=True)
    assert status == ""
    with contextlib.closing(sqlite3.connect(clone.path / "mlflow.db")) as store:
        runs = store.execute("select count(*) from runs").fetchone()
    assert runs == (3,)  # one run, two folds
    assert list(clone.path.glob(".state/checkpoints/*/checkpoint-*"))


def test_a_tampered_metric_is_detected(branch, again, tmp_path):
    better = branch.metrics()["log_loss"] - 1e-6
    edit_json(branch.path / "metrics/metrics.json", log_loss=better)
    branch.commit("Nothing to see")
    verified, text = judge("HEAD", recorded_in(branch, again[1], tmp_path / "r"), *again[1:], None)
    assert not verified
    assert "- metrics/metrics.json: edited since the run wrote it" in text
    assert "log_loss in metrics/metrics.json" in text


def test_a_tampered_metric_with_a_tampered_lock_is_detected(branch, again, tmp_path):
    metrics = branch.path / "metrics/metrics.json"
    before = md5_of(metrics)
    edit_json(metrics, log_loss=branch.metrics()["log_loss"] - 0.01)
    lock = branch.path / "dvc.lock"
    content = lock.read_text(encoding="utf-8")
    assert before in content
    lock.write_text(content.replace(before, md5_of(metrics)), encoding="utf-8")
    branch.commit("Nothing to see")
    recorded = recorded_in(branch, again[1], tmp_path / "r")
    for tolerance in (None, 1e-3):
        verified, text = judge("HEAD", recorded, *again[1:], tolerance)
        assert not verified
        assert "- evaluate: the same inputs give another result" in text
        assert text.endswith("Not verified: run again, HEAD differs in evaluate.")


@pytest.mark.slow
def test_a_changed_row_is_detected(branch, tmp_path):
    change_a_row(branch.path)
    branch.commit("A typo")
    commit = resolve("HEAD", branch.path)
    recorded, anew = tmp_path / "recorded", tmp_path / "again"
    for place in (recorded, anew):
        clones.checkout(branch.path, commit, place)
    (anew / "dvc.lock").unlink()
    dvc = [forked.commands() / "dvc", "repro", "prepare"]  # the others are for the slow test
    subprocess.run(dvc, cwd=anew, env=clones.environment(), check=True)
    clones.fetch_recorded(branch.path, commit, recorded, anew)
    verified, text = judge("HEAD", recorded, anew, True, None)
    assert not verified
    assert "- data/raw/starter.csv: not what prepare had when recorded" in text
    assert "response_a in data/prepared/battles.parquet" in text


def change_a_row(repository: Path) -> None:
    votes = repository / "data/raw/starter.csv"
    frame = pd.read_csv(votes)
    frame.loc[3, "response_a"] = '["Another answer."]'
    frame.to_csv(votes, index=False)


def test_a_checkpoint_left_over_from_another_run_is_detected(branch, again, tmp_path):
    output = branch.dvc("repro", "--force", "--single-item", "train@0")
    assert "going on from step" in output  # the user's repository took it up; verify did not
    branch.dvc("repro", "--single-item", "evaluate")
    branch.commit("A result from another run's checkpoint")
    recorded = recorded_in(branch, again[1], tmp_path / "r")
    verified, text = judge("HEAD", recorded, *again[1:], None)
    assert not verified
    assert "- train@0: the same votes, code and params give another model" in text
    assert "checkpoint left over from another run" in text
    assert "train@1:" not in text and "evaluate:" not in text  # the cause, not what follows from it


@pytest.mark.slow
def test_the_command_passes_an_untouched_result_and_fails_a_row_changed_and_committed(branch):
    folder = branch.path.with_name("temporary")
    folder.mkdir(exist_ok=True)
    command = ["env", f"TMPDIR={folder}", "python", "-m", "stages.verify", "main"]
    assert "Verified: " in branch.run(*command)
    assert {path.name for path in folder.iterdir()} <= {"preference-backbones"}  # the CPU's lock
    change_a_row(branch.path)
    branch.dvc("commit", "--force", "prepare")  # dvc.lock now claims that it ran on that row
    branch.commit("A typo")
    output = branch.run(*command[:-1], succeeds=False)
    assert "- prepare: the same inputs give another result" in output
    assert f"Both runs are kept in {folder}" in output
    shutil.rmtree(folder)


def test_interrupted_the_command_leaves_no_folder(tmp_path, monkeypatch):
    def interrupt(name: str, reuse_weights: bool, folder: Path) -> None:
        (folder / "again").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "run_again", interrupt)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["verify"])
    with pytest.raises(SystemExit, match="130"):
        verify.main()
    assert not list(tmp_path.iterdir())


# Revisions and inputs


def test_an_experiment_is_resolved_by_its_name(branch, tmp_path):
    edit_yaml(branch.path / "params.yaml", lambda raw: raw.update(seed=7))
    branch.dvc("exp", "save", "--name", "seven")
    clones.checkout(branch.path, resolve("seven", branch.path), tmp_path / "it")
    assert "seed: 7" in (tmp_path / "it/params.yaml").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="neither a git revision nor a DVC experiment"):
        resolve("eight", branch.path)


def test_a_revision_with_no_result_says_so(branch):
    branch.git("rm", "-q", "dvc.lock")
    branch.commit("No result")
    output = branch.run("python", "-m", "stages.verify", succeeds=False)
    assert "error: HEAD has no dvc.lock" in output and "Traceback" not in output


@pytest.mark.parametrize("place", ["outside", "tracked by DVC"])
def test_votes_that_git_does_not_hold_are_brought(branch, tmp_path, place):
    name = "data/raw/mine.csv" if place == "tracked by DVC" else "../mine.csv"
    votes = branch.path / name
    shutil.copy(branch.path / "data/raw/starter.csv", votes)
    edit_yaml(branch.path / "params.yaml", lambda raw: raw["data"].update(raw=name))
    if place == "tracked by DVC":
        branch.dvc("add", name)
        votes.unlink()  # its cache has it
    branch.commit("My votes")
    commit = resolve("HEAD", branch.path)
    clones.checkout(branch.path, commit, tmp_path / "a/b")
    clones.bring_inputs(branch.path, commit, tmp_path / "a/b")
    assert md5_of((tmp_path / "a/b" / name).resolve()) == md5_of(
        branch.path / "data/raw/starter.csv"
    )


def test_votes_that_are_nowhere_are_named(branch, tmp_path):
    edit_yaml(branch.path / "params.yaml", lambda raw: raw["data"].update(raw="../gone.csv"))
    branch.commit("My votes")
    commit = resolve("HEAD", branch.path)
    clones.checkout(branch.path, commit, tmp_path / "a")
    with pytest.raises(UserError, match=r"\.\./gone\.csv"):
        clones.bring_inputs(branch.path, commit, tmp_path / "a")


def test_fetched_weights_can_be_reused_but_no_checkpoint(clone, tmp_path):
    (clone.path / ".state/weights/fetched").mkdir(parents=True, exist_ok=True)
    clones.link_weights(clone.path, tmp_path)
    assert (tmp_path / ".state/weights/fetched").is_dir()
    assert not (tmp_path / ".state/checkpoints").exists()


def test_hashes_are_those_of_dvc(clone):
    outs = {
        path: md5
        for stage in read_lock(clone.path).values()
        for path, md5 in hashes(stage, "outs").items()
    }
    assert any(md5.endswith(".dir") for md5 in outs.values())
    clone.dvc("checkout", "--force")
    assert {path: md5_of(clone.path / path) for path in outs} == outs


# Comparing two folders


VERSIONS = {"torch": "2.13.0", "peft": "0.21.2"}


class Runs:
    """Two folders with the outs of a small pipeline, alike but for what a test changes."""

    def __init__(self, path: Path) -> None:
        self.recorded, self.again = path / "recorded", path / "again"
        for run in (self.recorded, self.again):
            (run / "metrics").mkdir(parents=True)
            (run / "data").mkdir()
        self.write()

    def write(self, **changes) -> None:
        """Write both runs; `changes` are the new one's."""
        given = {"log_loss": 1.05, "accuracy": 0.4, "n_rows": 100, "learned": "no"}
        given |= {"train_seconds": 3.0, "device": "cpu, 2 threads", "torch": "2.13.0"}
        given |= {"baselines": 1.1, "logit": 0.5, "id": "a"}
        for run, values in ((self.recorded, given), (self.again, given | changes)):
            metrics = {k: values[k] for k in ("log_loss", "accuracy", "n_rows", "learned")}
            metrics["train_seconds"] = values["train_seconds"]
            fold = {"versions": VERSIONS | {"torch": values["torch"]}, "device": values["device"]}
            fold |= {
                "dtype": "float32",
                "attention": "packed",
                "processes": 1,
                "first_loss": 1.0986,
            }
            (run / "metrics/metrics.json").write_text(json.dumps(metrics))
            (run / "metrics/provenance.json").write_text(json.dumps([fold]))
            (run / "metrics/baselines.json").write_text(
                json.dumps({"log_loss": values["baselines"]})
            )
            rows = pd.DataFrame({"id": [values["id"]], "logit": np.float32([values["logit"]])})
            rows.to_parquet(run / "data/predictions.parquet")
            self.lock(run)

    def lock(self, run: Path) -> None:
        outs = {
            "baselines": ["metrics/baselines.json"],
            "train@0": ["data/predictions.parquet"],
            "evaluate": ["metrics/metrics.json", "metrics/provenance.json"],
        }
        stages = {
            name: {
                "cmd": name,
                "outs": [{"path": path, "md5": md5_of(run / path)} for path in paths],
            }
            for name, paths in outs.items()
        }
        (run / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))

    def agreements(self, tolerance: float | None = None) -> dict[str, str]:
        tolerance = tolerance_for(self.recorded, self.again) if tolerance is None else tolerance
        return {o.stage: o.agreement for o in outcomes(self.recorded, self.again, tolerance)}


@pytest.fixture
def runs(tmp_path) -> Runs:
    return Runs(tmp_path)


def test_what_a_run_cost_is_not_compared(runs):
    runs.write(train_seconds=4.0)
    assert runs.agreements() == {
        "baselines": "identical",
        "train@0": "identical",
        "evaluate": "same",
    }


def test_on_the_same_cpu_the_last_digit_counts(runs):
    runs.write(log_loss=1.05 + 1e-12)
    assert runs.agreements()["evaluate"] == "differs"


@pytest.mark.parametrize(
    "other", [{"torch": "2.12.0"}, {"device": "NVIDIA H100"}, {"baselines": 1.1 + 1e-12}]
)
def test_with_other_libraries_device_or_processor_there_is_a_tolerance(runs, other):
    runs.write(log_loss=1.0505, accuracy=0.41, **other)
    assert runs.agreements()["evaluate"] == "within tolerance"
    runs.write(log_loss=1.052, **other)
    assert runs.agreements()["evaluate"] == "differs"
    runs.write(accuracy=0.43, **other)
    assert runs.agreements()["evaluate"] == "differs"


def test_a_tolerance_excuses_no_count_and_no_verdict(runs):
    runs.write(n_rows=101)
    assert runs.agreements(tolerance=0.5)["evaluate"] == "differs"
    runs.write(learned="yes")
    assert runs.agreements(tolerance=0.5)["evaluate"] == "differs"


def test_logits_are_told_and_the_metrics_decide(runs):
    runs.write(torch="2.12.0", logit=0.75)
    assert runs.agreements()["train@0"] == "within tolerance"
    verified, text = judge("HEAD", runs.recorded, runs.again, True, None)
    assert verified
    assert "by 0.25 in logit in data/predictions.parquet" in text
    assert "- torch: 2.13.0 when recorded, 2.12.0 here" in text
    runs.write(torch="2.12.0", id="b")
    assert runs.agreements()["train@0"] == "differs"


def test_a_pipeline_that_stopped_is_not_verified(runs):
    verified, text = judge("HEAD", runs.recorded, runs.again, False, None)
    assert not verified and "did not run to its end" in text


def test_outs_that_no_cache_holds_are_said_not_to_be_compared(runs):
    runs.write(logit=0.75)
    (runs.recorded / "data/predictions.parquet").unlink()
    _, text = judge("HEAD", runs.recorded, runs.again, True, None)
    assert "data/predictions.parquet (the recorded one is in no cache) not compared" in text
