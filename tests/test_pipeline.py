"""The user's three habits, with real DVC in a temporary clone and tiny backbones."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.clones import Clone


@pytest.fixture(scope="module")
def clone(tmp_path_factory, tiny) -> Iterator[Clone]:
    """A clone in which `dvc repro` has run, and its result has been committed."""
    clone = Clone(tmp_path_factory.mktemp("clone"), tiny)
    clone.output = clone.dvc("repro")
    clone.git("add", ".")
    clone.git("commit", "-qm", "Result")
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
    assert {"log_loss", "log_loss_single", "gain_over_prior", "accuracy"} <= set(changed)
    for name, row in changed.items():
        assert row["old"] is not None and row["new"] is not None, name
        assert "diff" in row or name == "learned", name
    shown = clone.dvc("exp", "show", "--md")
    assert "gemma-tiny" in shown and "log_loss" in shown
    clone.dvc("plots", "diff", "HEAD", "gemma-tiny", "--out", "plots")
    assert (clone.path / "plots/index.html").stat().st_size > 10_000


def test_going_back_restores_the_first_backbone_without_training(clone):
    output = clone.dvc("exp", "run", "-S", "model=llama", "--name", "llama-again")
    for fold in (0, 1):
        assert f"Stage 'train@{fold}' is cached - skipping run" in output
    assert clone.dvc("metrics", "diff", "HEAD", "llama-again") == ""


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
        ("train.objective=rank", "train.objective"),
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


def test_the_users_votes_tracked_by_dvc_are_used_and_kept(clone):
    votes = clone.path / "data/raw/mine.csv"
    lines = (clone.path / "data/raw/starter.csv").read_text(encoding="utf-8")
    votes.write_text(lines, encoding="utf-8")
    clone.dvc("add", "data/raw/mine.csv")
    output = clone.dvc("exp", "run", "-S", "data.raw=data/raw/mine.csv", "prepare")
    assert "Running stage 'prepare'" in output
    assert votes.read_text(encoding="utf-8") == lines
