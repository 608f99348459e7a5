"""A fold that is in training, as its file and the terminal show it."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from stages.live.table import cells, view
from stages.training import progress
from tests.support.places import REPO
from tests.support.workspace import Workspace

FACTS = {"fold": 1, "checkpoint": {"checkpoint": "SmolLM2-135M-Instruct.Q4_1"}, "prior": 1.0822}
POINT = {"step": 5, "steps": 15, "time": 1000.0, "seconds": 40.0, "tokens": 5280}
POINT |= {"training_loss": 1.0812, "memory_gib": 1.99}


@pytest.fixture
def workspace(tmp_path, tiny, battles) -> Workspace:
    return Workspace(tmp_path, tiny(), battles)


def file_of(workspace: Workspace) -> Path:
    (file,) = (workspace.path / ".state/checkpoints").glob("*.jsonl")
    return file


def watch(
    folder: Path, *arguments: str, columns: int = 120, stdout: int = subprocess.PIPE
) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "stages.watch", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(REPO), "COLUMNS": str(columns), "PATH": "/usr/bin:/bin"},
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
    )


def once(folder: Path, columns: int = 120) -> str:
    output, _ = watch(folder, "--once", columns=columns).communicate(timeout=60)
    return output


def test_a_killed_fold_goes_on_in_its_file_with_no_step_twice(workspace):
    workspace.kill_after(4, "train", "0")
    file = file_of(workspace)
    stopped = progress.read(file)
    assert stopped is not None and not stopped.running
    assert [point["step"] for point in stopped.points if "training_loss" in point][:4] == [
        1,
        2,
        3,
        4,
    ]
    assert "stopped" in once(workspace.path)

    seen = follow_to_the_end(file, workspace.start("train", "0"))
    steps = [point["step"] for point in seen.points if "training_loss" in point]
    assert steps == [1, 2, 3, 4, 5, 6] and seen.running
    curves = workspace.curves().set_index("step")
    for point in seen.points:
        for name in ("training_loss", "validation_loss", "lr", "grad_norm"):
            if name in point:
                assert point[name] == pytest.approx(curves.loc[point["step"], name])
    assert seen.points[-1]["tokens"] == workspace.summary()["tokens_seen"]
    assert seen.points[-1]["seconds"] == pytest.approx(workspace.summary()["train_seconds"])
    assert not file.exists(), "the fold has ended"


def follow_to_the_end(file: Path, process: subprocess.Popen) -> progress.Progress:
    """The last that a training's file said."""
    last = None
    while process.poll() is None:
        last = progress.read(file) or last
        time.sleep(0.005)
    assert process.returncode == 0, process.communicate()[0]
    assert last is not None
    return last


def test_the_prior_is_the_loss_of_the_class_shares(workspace):
    workspace.kill_after(2, "train", "0")
    told = progress.read(file_of(workspace))
    assert told is not None
    targets = pd.read_parquet(workspace.path / "data/prepared/battles.parquet").filter(
        regex="^target_"
    )
    fold = pd.read_parquet(workspace.path / "data/folds/folds.parquet").fold
    shares = targets[fold != 0].mean()
    expected = -(targets[fold == 0] * np.log(shares)).sum(axis=1).mean()
    assert told.facts["prior"] == pytest.approx(expected)


def test_the_table_says_how_a_fold_stands_and_how_long_it_takes(tmp_path):
    file = tmp_path / ".state/checkpoints/0123.jsonl"
    file.parent.mkdir(parents=True)
    progress.write(file, [FACTS, POINT, {**POINT, "validation_loss": 1.0915}])
    with FileLock(progress.lock_beside(file)):
        running = progress.read(file)
        assert running is not None
        assert cells(running, now=1010.0) == [
            "5/15", "1.0812", "1.0915", "1.0822", "132", "1:10", "2.0 GiB",
        ]  # fmt: skip
        shown = once(tmp_path)
        narrow = once(tmp_path, columns=80).splitlines()
    assert len(narrow) == 2 and all(len(line) <= 80 for line in narrow), "the name alone gives way"
    assert narrow[1].split()[2:] == shown.splitlines()[1].split()[2:]
    assert narrow[1].startswith("SmolLM") and "validation" in narrow[0]
    assert "SmolLM2-135M-Instruct.Q4_1" in shown and "1.0822" in shown and "1.99" not in shown
    assert "stopped" in once(tmp_path) and "goes on from its last checkpoint" in once(tmp_path)


def test_a_fold_that_loads_and_one_that_predicts_are_called_that(tmp_path):
    file = tmp_path / "0123.jsonl"
    with FileLock(progress.lock_beside(file)):
        progress.write(file, [FACTS])
        starting = progress.read(file)
        progress.append(file, {**POINT, "step": 15})
        predicting = progress.read(file)
    assert starting is not None and predicting is not None
    assert cells(starting, 0.0) == ["–", "–", "–", "1.0822", "–", "starting", "–"]
    assert cells(predicting, 0.0)[5] == "predicting"


def test_a_line_cut_short_is_passed_over_and_an_infinite_gradient_left_out(tmp_path):
    file = tmp_path / "0123.jsonl"
    progress.write(file, [FACTS])
    progress.append(file, {**POINT, "grad_norm": float("inf")})
    with file.open("a") as opened:
        opened.write('{"step": 6, "ste')
    told = progress.read(file)
    assert told is not None and list(told.points) == [POINT]
    assert "Infinity" not in file.read_text(encoding="utf-8")
    assert json.loads(file.read_text(encoding="utf-8").splitlines()[0]) == FACTS


def test_where_nothing_runs_it_says_so(tmp_path):
    assert once(tmp_path).startswith("No fold is in training.")
    assert view(tmp_path / "none") == once(tmp_path).strip()


def test_it_shows_a_new_step_within_seconds_and_ends_on_ctrl_c(tmp_path):
    terminal, end = pty.openpty()
    process = watch(tmp_path, stdout=end)
    output = b""
    while b"No fold is in training" not in output:
        output += os.read(terminal, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    os.close(end)
    with contextlib.suppress(OSError):  # which Linux raises at the end
        while read := os.read(terminal, 4096):
            output += read
    os.close(terminal)
    assert b"Traceback" not in output
