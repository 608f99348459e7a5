"""The user's three habits, with real DVC in a temporary clone and tiny backbones."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPO


class Clone:
    """A clone of this checkout whose llama and gemma are tiny local checkpoints."""

    def __init__(self, path: Path, tiny) -> None:
        self.path = path
        listed = subprocess.check_output(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=REPO, text=True
        )
        for name in listed.splitlines():
            if (REPO / name).exists() and name != "dvc.lock" and not name.startswith("metrics/"):
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPO / name, path / name)
        raw = yaml.safe_load((path / "params.yaml").read_text(encoding="utf-8"))
        raw["scales"]["smoke"] |= {"rows": 40, "max_tokens": 128, "token_budget": 512}
        raw["evaluate"]["draws"] = 200
        for family, architecture in (("llama", "llama"), ("gemma", "gemma3")):
            entry = {"folder": str(tiny(architecture)), "lr": 1.0e-3, "head_lr": 1.0e-3}
            raw["backbones"][family]["small"] = entry
        (path / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
        for command in ("init -q -b main", "add .", "commit -qm start"):
            self.git(*command.split())

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
        subprocess.run(["git", *who, *arguments], cwd=self.path, check=True, capture_output=True)

    def dvc(self, *arguments: str, succeeds: bool = True) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.invalid",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.invalid",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        # A file, not a pipe: a queue's workers would hold a pipe open.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
            done = subprocess.run(
                ["dvc", *arguments],
                cwd=self.path,
                env=environment,
                stdout=printed,
                stderr=subprocess.STDOUT,
                timeout=600,
            )
            printed.seek(0)
            output = printed.read()
        assert (done.returncode == 0) == succeeds, output
        return output

    def stop_workers(self) -> None:
        """End the queue's workers: at times one of DVC's outlives its empty queue."""
        for pid in self.path.glob(".dvc/tmp/exps/celery/*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid.read_text()), signal.SIGKILL)

    def metrics(self) -> dict:
        return json.loads((self.path / "metrics/metrics.json").read_text(encoding="utf-8"))


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
