"""The user's three habits, with real DVC in a temporary clone and tiny backbones."""

import json
import shutil
import time
from collections.abc import Iterator
from copy import copy

import pandas as pd
import pytest
from mlflow import MlflowClient

from stages.runs import finished, store
from tests.support.clones import Clone, reproduced_clone
from tests.support.places import REPO
from tests.support.s3 import BUCKET, KEYS, s3_server


@pytest.fixture(scope="module")
def clone(tmp_path_factory, tiny) -> Iterator[Clone]:
    """A clone in which `dvc repro` has run, and its result has been committed."""
    clone = reproduced_clone(tmp_path_factory, tiny)
    yield clone
    clone.stop_workers()


def test_repro_ends_with_metrics_and_a_sentence_on_learning(clone):
    metrics = clone.metrics()
    assert metrics["n_rows"] == pytest.approx(40, abs=3)
    assert metrics["learned"] in ("yes", "no", "undecided")
    assert metrics["prior_log_loss"] == pytest.approx(1.09, abs=0.05)
    assert "Traceback" not in clone.output and "learned" in clone.output


def test_a_second_repro_runs_nothing(clone):
    assert "Running stage" not in clone.dvc("repro")


def test_another_backbone_reuses_the_data_and_can_be_compared(clone):
    output = clone.dvc("exp", "run", "-S", "model=gemma", "--name", "gemma-tiny")
    for stage in ("prepare", "split", "baselines"):
        assert f"Stage '{stage}' didn't change, skipping" in output
    for stage in ("weights", "train@0", "train@1", "evaluate", "publish"):
        assert f"Running stage '{stage}'" in output
    rows = json.loads(clone.dvc("metrics", "diff", "HEAD", "gemma-tiny", "--json"))
    changed = rows["metrics/metrics.json"]
    assert {"log_loss", "log_loss_single", "gain_over_prior", "brier"} <= set(changed)
    for name, row in changed.items():
        assert row["old"] is not None and row["new"] is not None, name
        assert "diff" in row or name == "learned", name
    shown = clone.dvc("exp", "show", "--md")
    assert "gemma-tiny" in shown and "log_loss" in shown
    clone.dvc("plots", "diff", "HEAD", "gemma-tiny", "--out", "plots")
    assert (clone.path / "plots/index.html").stat().st_size > 10_000


def test_experiments_revisions_the_workspace_and_mlflow_runs_are_compared(clone):
    printed = clone.run("python", "-m", "stages.compare", "HEAD", "gemma-tiny")
    comparison = json.loads((clone.path / "metrics/comparison.json").read_text(encoding="utf-8"))
    assert [run["name"] for run in comparison["runs"]] == ["HEAD", "gemma-tiny"]
    assert comparison["verdict"].upper() in printed and comparison["sentence"] in printed
    assert (clone.path / "metrics/comparison.html").stat().st_size > 50_000
    workspace = clone.run(
        "python", "-m", "stages.compare", "HEAD", "workspace", "--output", "again.json"
    )
    assert comparison["sentence"] in workspace


def test_a_recorded_run_reads_as_the_revision_it_came_from(clone, monkeypatch):
    monkeypatch.chdir(clone.path)
    client = MlflowClient(store.uri())
    experiment = client.get_experiment_by_name(store.EXPERIMENT).experiment_id
    (run,) = client.search_runs(
        [experiment], "tags.`dvc.exp_name` = 'gemma-tiny' and tags.`dvc.stage` = 'publish'"
    )
    recorded, texts = finished.fetch(run.info.run_id)
    tracked, battles = finished.fetch("gemma-tiny")
    assert recorded.metrics == tracked.metrics and recorded.raw_votes == tracked.raw_votes
    pd.testing.assert_frame_equal(recorded.rows, tracked.rows)
    assert [f["gates"] for f in recorded.folds] == [f["gates"] for f in tracked.folds]
    assert texts is None and set(tracked.rows.id) <= set(battles.id)


def test_an_unknown_name_lists_the_known_ones(clone):
    printed = clone.run("python", "-m", "stages.compare", "HEAD", "nobody", succeeds=False)
    assert "nobody is neither a git revision nor a DVC experiment" in printed
    assert "gemma-tiny" in printed and "Traceback" not in printed


@pytest.mark.slow
def test_going_back_restores_the_first_backbone_without_training(clone):
    clone.dvc("exp", "run", "-S", "model=gemma", "--name", "gemma-before")
    output = clone.dvc("exp", "run", "-S", "model=llama", "--name", "llama-again")
    for fold in (0, 1):
        assert f"Stage 'train@{fold}' is cached - skipping run" in output
    assert clone.dvc("metrics", "diff", "HEAD", "llama-again") == ""


@pytest.mark.slow
def test_a_queue_trains_two_backbones_with_two_workers(clone):
    clone.dvc("exp", "run", "--queue", "-S", "model=gemma,llama", "-S", "seed=5")
    clone.dvc("queue", "start", "-j", "2")
    deadline = time.monotonic() + 300
    ended = 0
    while ended < 2 and time.monotonic() < deadline:
        time.sleep(3)
        status = clone.dvc("queue", "status")
        ended = status.count("Success") + status.count("Failed")
    assert status.count("Success") == 2, status


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=lama", "backbones.lama"),
        ("scales.smoke.max_tokens=2048", "token_budget"),
    ],
)
def test_a_wrong_param_is_named_before_anything_trains(clone, override, message):
    path = clone.path / "params.yaml"
    before = path.read_text(encoding="utf-8")
    try:
        output = clone.dvc("exp", "run", "-S", override, succeeds=False)
    finally:
        path.write_text(before, encoding="utf-8")
    assert message in output and "Traceback" not in output
    assert "Running stage 'train" not in output


# Elsewhere


@pytest.fixture
def pushed(clone, tmp_path, monkeypatch) -> Iterator[str]:
    """The URL of a bare repository, to which git and DVC have pushed HEAD and an experiment."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    bare = str(tmp_path / "bare.git")
    with s3_server() as url:
        clone.git("init", "--bare", "-q", "-b", "main", bare)
        clone.dvc("remote", "add", "--default", "store", f"s3://{BUCKET}/cache")
        clone.dvc("remote", "modify", "store", "endpointurl", url)
        clone.git("remote", "add", "origin", bare)
        clone.git("commit", "-qm", "A remote for results", ".dvc/config")
        clone.git("push", "-q", "origin", "main")
        clone.dvc("push")
        clone.dvc("exp", "run", "-S", "model=gemma", "--name", "gemma-pushed")
        clone.dvc("exp", "push", "origin", "gemma-pushed")
        yield bare


@pytest.mark.slow
def test_another_clone_compares_what_was_pushed_to_s3_and_trains_nothing(clone, pushed, tmp_path):
    other = copy(clone)
    other.path = tmp_path / "other"
    clone.git("clone", "-q", pushed, str(other.path))
    assert not (other.path / ".dvc/cache").exists()
    other.dvc("exp", "pull", "origin", "gemma-pushed")
    arguments = ("python", "-m", "stages.compare", "HEAD", "gemma-pushed")
    assert other.run(*arguments) == clone.run(*arguments)
    other.dvc("pull")
    assert "Running stage" not in other.dvc("repro")
    assert other.metrics() == json.loads(clone.run("git", "show", "HEAD:metrics/metrics.json"))


@pytest.mark.slow
def test_a_slurm_job_sends_its_experiment_back(clone, tmp_path, monkeypatch):
    """As Slurm starts it: a copy of the script, in the folder of the submission."""
    job = shutil.copy(clone.path / "docs/elsewhere/slurm.sbatch", tmp_path / "slurm_script")
    monkeypatch.setenv("SLURM_SUBMIT_DIR", str(clone.path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    clone.run("bash", str(job), "from-a-job", "-S", "model=gemma")
    printed = clone.run("python", "-m", "stages.compare", "HEAD", "from-a-job")
    assert "from-a-job" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["slurm_script"]


def test_the_users_votes_tracked_by_dvc_are_used_and_kept(clone):
    votes = clone.path / "data/raw/mine.csv"
    lines = (clone.path / "data/raw/starter.csv").read_text(encoding="utf-8")
    votes.write_text(lines, encoding="utf-8")
    clone.dvc("add", "data/raw/mine.csv")
    output = clone.dvc("exp", "run", "-S", "data.raw=data/raw/mine.csv", "prepare")
    assert "Running stage 'prepare'" in output
    assert votes.read_text(encoding="utf-8") == lines


@pytest.mark.slow
def test_a_pipeline_whose_weights_are_here_asks_no_other_machine(tmp_path, tiny, monkeypatch):
    log = tmp_path / "network.log"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("NETWORK_LOG", str(log))
    monkeypatch.setenv("PYTHONPATH", str(REPO / "tests/support/blocked"))
    (tmp_path / "clone").mkdir()
    clone = Clone(tmp_path / "clone").make(tiny)
    assert "recorded the run" in clone.dvc("repro")
    assert not log.exists(), log.read_text(encoding="utf-8")
    lookup = "import socket; socket.getaddrinfo('example.invalid', 80)"
    clone.run("python", "-c", lookup, succeeds=False)
    assert "example.invalid" in log.read_text(encoding="utf-8")


def test_a_param_makes_one_adapter_a_part_of_the_pipeline(tmp_path_factory, tiny):
    clone = reproduced_clone(tmp_path_factory, tiny)
    output = clone.dvc("exp", "run", "-S", "refit=[train]", "--name", "one-adapter")
    assert "Stage 'train@0' didn't change, skipping" in output
    assert "Running stage 'refit@train'" in output
    made = clone.path / "models/refit"
    assert json.loads((made / "refit.json").read_text(encoding="utf-8"))["how"] == "train"
    shutil.rmtree(made)
    clone.dvc("checkout", "models/refit")
    assert (made / "adapter_config.json").exists()
    assert "up to date" in clone.dvc("status")
