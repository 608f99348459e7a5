"""Long predictions: reckoned before they start, and shared out to several processes."""

import argparse
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from stages import predict
from stages.config.errors import UserError
from stages.runs import batch, ensemble
from stages.runs.batch import deal
from stages.runs.ensemble import Ensemble
from stages.runs.reckoning import Estimate, Plan, duration, in_words
from stages.votes.rows import TURNS, WINNERS
from tests.support.gpus import pretend_gpus
from tests.support.trained import Trained, trained_clone

pytestmark = pytest.mark.rounding

# Plans


@pytest.mark.parametrize(("text", "seconds"), [("9h", 32400), ("1h30m", 5400), ("0.5s", 0.5)])
def test_a_time_is_read(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "9", "h", "30m1h", "0h", "nine hours", "-1h"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a time such as 9h"):
        duration(text)


def test_times_are_told_in_words():
    assert [in_words(s) for s in (0.4, 62, 3599.9, 9 * 3600 + 5)] == [
        "0 s",
        "1 min 2 s",
        "1 h 0 min",
        "9 h 0 min",
    ]


def estimates(*seconds: float) -> list[Estimate]:
    return [Estimate("llama", 5, "5 folds, both orders", 12_500, 90_000_000, s) for s in seconds]


def test_processes_take_as_long_as_the_slowest(capsys):
    assert Plan(only=False, within=duration("9h")).allows(estimates(30_000, 32_000))
    told = capsys.readouterr().out
    assert "25,000 rows" in told and "180,000,000 tokens" in told
    assert "5,625 tokens/s" in told and "8 h 53 min" in told


def test_what_takes_too_long_is_refused_with_what_would_fit():
    with pytest.raises(UserError) as refused:
        Plan(only=True, within=duration("9h")).allows(estimates(30_000, 64_800))
    said = str(refused.value)
    assert "at most 9 h 0 min, found 18 h 0 min" in said
    assert "--folds 2 in place of 5" in said and "50% of the tokens" in said and "2.0 times" in said
    with pytest.raises(UserError) as refused:
        Plan(only=False, within=duration("1h")).allows(estimates(64_800))
    assert "--folds" not in str(refused.value), "not even one fold would fit"


def test_parts_are_dealt_by_length_and_each_once():
    lengths = {1: 10, 65: 80, 129: 30, 193: 70, 257: 40}
    assert deal(lengths, 2) == [[1, 65, 129], [193, 257]], "80 + 30 + 10 and 70 + 40"
    assert deal({1: 5}, 3) == [[1]], "no process without work"
    assert deal({}, 2) == [[]]


# The command


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny) -> Trained:
    return trained_clone(tmp_path_factory, tiny)


@pytest.fixture(scope="module")
def model(trained) -> Ensemble:
    with trained.inside():
        return Ensemble(Path())


@pytest.fixture
def here(trained) -> Iterator[Trained]:
    with trained.inside():
        yield trained


@pytest.fixture
def loaded(model, monkeypatch) -> None:
    """The model is loaded once for this process."""
    monkeypatch.setattr(batch, "load_model", lambda *given: model)


@pytest.fixture
def two_gpus(tmp_path, monkeypatch) -> None:
    """A machine that seems to have two; torch finds none, and computes on the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # to have it back afterwards
    pretend_gpus(tmp_path, monkeypatch)
    monkeypatch.setenv("GPUS", "2")


def write(path: Path, battles: pd.DataFrame, times: int) -> Path:
    """Rows of several lengths, of which one cannot be read."""
    texts = battles[list(TURNS)].map(lambda turns: json.dumps(list(turns)))
    rows = pd.concat([texts] * times, ignore_index=True)
    rows.loc[70, "prompt"] = "[]"
    rows.to_csv(path, index_label="id")
    return path


def call(here: Trained, given: Path, output: str, *more: str) -> Path:
    here.call(predict.main, "--input", str(given), "--output", output, *more)
    return here.path / output


def assert_same(found: Path, expected: Path) -> None:
    a, b = pd.read_csv(found), pd.read_csv(expected)
    assert a.id.tolist() == b.id.tolist()
    assert np.abs(a[list(WINNERS)] - b[list(WINNERS)]).to_numpy().max() < 1e-6
    listed = [path.with_suffix(".unreadable.csv").read_text() for path in (found, expected)]
    assert listed[0] == listed[1] and len(listed[0].splitlines()) == 2


@pytest.mark.slow
def test_two_processes_predict_as_one_does(here, tmp_path, monkeypatch, two_gpus, capsys):
    given = write(tmp_path / "test.csv", here.battles(), times=8)
    together = call(here, given, "together.csv")
    printed = capsys.readouterr()
    assert "as 2 processes computed a few rows" in printed.out
    assert f"{8 * len(here.battles())} rows predicted by llama, 2 folds" in printed.out
    assert "1 of them could not be read" in printed.out
    monkeypatch.setenv("GPUS", "1")
    assert_same(together, call(here, given, "alone.csv"))
    assert not list(here.path.glob("*.parts"))


def test_the_tokens_that_are_reckoned_are_those_that_are_read(
    here, loaded, model, tmp_path, monkeypatch
):
    given = write(tmp_path / "test.csv", here.battles(), times=3)
    read, class_logits = [], ensemble.class_logits

    def counting(model, ids, compute):
        read.append(sum(map(len, ids)))
        return class_logits(model, ids, compute)

    task = predict.submission.Battles(given, model.data)
    counted = task.opened(model).tokens(list(task.rows()))
    monkeypatch.setattr(ensemble, "class_logits", counting)
    call(here, given, "counted.csv")
    assert sum(read) == counted.sum() and counted[70] == 0


def test_a_plan_is_told_and_nothing_is_written(here, loaded, tmp_path, capsys):
    given = write(tmp_path / "test.csv", here.battles(), times=4)
    assert not call(here, given, "plan.csv", "--plan").exists()
    assert "reckoning: " in capsys.readouterr().out and not list(here.path.glob("*.parts"))
    with pytest.raises(SystemExit) as ended:
        call(here, given, "plan.csv", "--within", "0.001s")
    assert ended.value.code == 1 and not (here.path / "plan.csv").exists()
    assert "--within: expected a prediction that takes at most" in capsys.readouterr().err
    assert call(here, given, "plan.csv", "--within", "9h").exists()


def test_fewer_folds_are_the_first_ones(here, tmp_path, capsys):
    battles = here.battles()
    given = write(tmp_path / "test.csv", battles, times=3)
    found = pd.read_csv(call(here, given, "one.csv", "--folds", "1"))[list(WINNERS)]
    expected = Ensemble(Path(), [0]).predict(battles).final
    assert np.abs(found.to_numpy()[: len(battles)] - expected).max() < 1e-5
    with pytest.raises(SystemExit):
        call(here, given, "three.csv", "--folds", "3")
    assert "--folds: expected 1 to 2" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_process_is_told_and_what_the_others_did_is_kept(
    here, tmp_path, two_gpus, monkeypatch, capsys
):
    given = write(tmp_path / "test.csv", here.battles(), times=40)
    command = ["-m", "stages.predict", "--input", str(given), "--output", "killed.csv"]
    process = subprocess.Popen(
        [sys.executable, *command], cwd=here.path, stderr=subprocess.PIPE, text=True
    )
    with contextlib.closing(process.stderr):
        while not list(here.path.glob("killed.parts/*/rows-*.parquet")):
            assert process.poll() is None
            time.sleep(0.01)
        started = psutil.Process(process.pid).children()
        workers = [each for each in started if "spawn_main" in " ".join(each.cmdline())]
        workers[-1].kill()
        _, error = process.communicate(timeout=300)
    assert process.returncode == 1
    last = error.splitlines()[-1]
    assert re.match(r"error: process [12] of 2 was killed by signal 9.* are kept", last)
    assert "Traceback" not in error
    kept = list(here.path.glob("killed.parts/*/rows-*.parquet"))
    assert len(kept) >= 12, "all parts of the other process"
    monkeypatch.setenv("GPUS", "1")
    resumed = pd.read_csv(call(here, given, "killed.csv"))
    assert resumed.id.tolist() == list(range(len(resumed)))
    assert f"{len(resumed)} rows predicted" in capsys.readouterr().out
