"""What a training tells reaches MLflow and DVCLive's files while it runs.

MLflow is here a SQLite database, and a server over HTTP.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from stages.runs import store
from stages.training import progress
from tests.support import forked
from tests.support.mlflow_server import Server, free_port
from tests.support.places import REPO
from tests.support.workspace import Workspace

# A fold that waits at each step until MLflow has it, and may be killed there.
WAITING = """
import os, sys, time
from stages.runs import store
from stages.training import telling
from stages.config.errors import stage
from stages.training.run import run
telling.EVERY, last, number = 0.1, int(sys.argv[1]), int(sys.argv[2])
tell = telling.Telling.on_log
def sent(step):
    with store.opened() as (client, experiment):
        return any(point.step == step for run in client.search_runs([experiment])
                   for point in client.get_metric_history(run.info.run_id, "training_loss"))
def tell_and_wait(self, args, state, control, logs, **more):
    tell(self, args, state, control, logs, **more)
    while "loss" in logs and not sent(state.global_step):
        time.sleep(0.05)
    if state.global_step == last:
        os.kill(os.getpid(), number)
telling.Telling.on_log = tell_and_wait
stage(run)(0)
"""
FACTS = {
    "fold": 0,
    "fingerprint": "f" * 64,
    "checkpoint": {"checkpoint": "SmolLM2-135M-Instruct.Q4_1", "revision": "b179c952"},
    "model": "llama",
    "scale": "smoke",
    "params": {"train": {"seed": 1}},
    "prior": 1.08,
}


def point(step: int) -> dict:
    return {"step": step, "steps": 9, "time": 1000.0 + step, "training_loss": 1.1 - step / 100}


def start(folder: Path, *command: str) -> subprocess.Popen:
    return subprocess.Popen(
        [forked.commands() / "python", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPO), "DVC_ROOT": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def only_run() -> Run:
    client = MlflowClient(store.uri())
    experiment = client.get_experiment_by_name(store.EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def in_files(folder: Path) -> dict[str, list[float]]:
    """The columns of DVCLive's file of the training loss."""
    file = folder / "dvclive/fold-0/plots/metrics/training_loss.tsv"
    return pd.read_csv(file, sep="\t").to_dict("list")


def steps_of(run: Run) -> list[int]:
    history = MlflowClient(store.uri()).get_metric_history(run.info.run_id, "training_loss")
    return [point.step for point in history]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder that is the repository's root."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_losses_come_while_a_fold_trains_and_a_killed_one_goes_on_in_its_run(
    here, tiny, battles, number, status
):
    workspace = Workspace(here, tiny(), battles)
    killed = start(workspace.path, "-c", WAITING, "5", str(int(number)))
    output, _ = killed.communicate(timeout=300)
    assert killed.returncode == status, output
    first = only_run()
    assert "INFO mlflow" not in output
    assert first.info.status == "KILLED" and steps_of(first) == [1, 2, 3, 4, 5]
    assert in_files(here)["step"] == [1, 2, 3, 4, 5]
    assert first.data.params["train.objective"] == "classify"

    resumed = start(workspace.path, "-c", WAITING, "0", "0")
    output, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0 and "going on from step 4" in output, output
    run = only_run()
    assert run.info.run_id == first.info.run_id and run.info.status == "FINISHED"
    assert steps_of(run) == [1, 2, 3, 4, 5, 6]
    assert run.data.tags["fingerprint"] == workspace.summary()["fingerprint"]
    losses = workspace.curves()[["step", "training_loss"]].dropna().to_dict("list")
    assert in_files(here) == losses and losses["step"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_server_that_was_away_gets_all_when_it_is_back(here, monkeypatch):
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2@127.0.0.1:{port}")
    file = here / "0123.jsonl"
    progress.write(file, [FACTS, point(1), point(2)])
    follower = start(here, "-m", "stages.follow", str(file), "--every", "0.2")
    assert follower.stdout is not None
    warning = follower.stdout.readline()
    assert warning.startswith("warning: http://***@127.0.0.1") and "hunter2" not in warning
    assert "The training goes on." in follower.stdout.readline()
    assert in_files(here)["step"] == [1, 2]
    progress.append(file, point(3))
    with Server(here / "server", port).serving():
        wait_for_a_run()
        follower.communicate("FAILED", timeout=60)
        assert only_run().info.status == "FAILED" and steps_of(only_run()) == [1, 2, 3]
    assert in_files(here) == {"step": [1, 2, 3], "training_loss": [1.09, 1.08, 1.07]}


def wait_for_a_run() -> None:
    client = MlflowClient(store.uri())
    for _ in range(1200):
        experiment = client.get_experiment_by_name(store.EXPERIMENT)
        if experiment and client.search_runs([experiment.experiment_id]):
            return
        time.sleep(0.05)
    raise TimeoutError("the run has not come")


def test_a_server_that_is_away_stops_no_training_and_delays_none(here, tiny, battles, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    workspace = Workspace(here, tiny(), battles)
    patched = "from stages.training import telling, run; telling.EVERY = 0.01; run.run(0)"
    process = start(workspace.path, "-c", patched)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "Traceback" not in output
    assert workspace.summary()["steps"] == 6


def test_a_training_that_ends_before_the_first_sending_opens_no_run(here):
    file = here / "0123.jsonl"
    progress.write(file, [FACTS, point(1)])
    follower = start(here, "-m", "stages.follow", str(file), "--every", "60")
    output, _ = follower.communicate("FINISHED", timeout=60)
    assert follower.returncode == 0 and output == ""
    assert not (here / "mlflow.db").exists() and not (here / "dvclive").exists()
