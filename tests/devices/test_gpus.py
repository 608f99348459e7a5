"""Trainings side by side share a machine's GPUs: fake ones here, real processes and locks."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.config.errors import UserError
from stages.devices import gpus
from tests.support.gpus import UUIDS, pretend_gpus
from tests.support.places import REPO

HOLD = """
import os, sys
from pathlib import Path
from stages.devices import gpus
with gpus.taken(int(sys.argv[1]), Path(sys.argv[2])):
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.read()
"""


class Trainings:
    """Processes that hold GPUs until they are told to end."""

    def __init__(self, locks: Path) -> None:
        self.locks = locks
        self.started: list[subprocess.Popen] = []

    def start(self, count: int = 1) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(count), str(self.locks)],
            cwd=REPO,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process


@pytest.fixture
def two_gpus(tmp_path, monkeypatch) -> None:
    pretend_gpus(tmp_path, monkeypatch)


@pytest.fixture
def trainings(tmp_path, two_gpus) -> Iterator[Trainings]:
    trainings = Trainings(tmp_path / "locks")
    yield trainings
    for process in trainings.started:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


def end(process: subprocess.Popen) -> None:
    process.communicate("", timeout=30)
    assert process.returncode == 0


def test_each_training_has_a_gpu_of_its_own_and_the_third_waits_for_one(trainings):
    first, second = trainings.start(), trainings.start()
    held = [line(first), line(second)]
    assert sorted(held) == UUIDS
    third = trainings.start()
    assert line(third) == "waiting for 1 of 2 GPUs: others train on them"
    end(second)
    assert line(third) == held[1]


def test_a_killed_training_leaves_its_gpu_to_the_next(trainings):
    first, second = trainings.start(), trainings.start()
    held = line(first)
    line(second)
    third = trainings.start()
    assert "waiting" in line(third)
    first.kill()
    assert line(third) == held


def test_who_waits_for_two_gpus_holds_none_meanwhile(trainings):
    small = trainings.start()
    line(small)
    large = trainings.start(2)
    assert "waiting for 2 of 2" in line(large)
    another = trainings.start()
    while (found := line(another)).startswith("waiting"):
        pass  # for the moment in which the large one looked
    assert found in UUIDS
    end(small)
    end(another)
    assert line(large).split(",") == UUIDS


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, UUIDS),
        ("1", UUIDS[1:]),
        ("1,0", UUIDS[::-1]),
        (UUIDS[1], UUIDS[1:]),
        ("MIG-cccc", ["MIG-cccc"]),
        ("", []),
        ("-1", []),
    ],
)
def test_the_gpus_to_choose_from_are_those_visible(two_gpus, monkeypatch, visible, expected):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus.pool() == expected


def test_a_number_that_no_gpu_has_is_refused(two_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    with pytest.raises(UserError, match="the number 2; nvidia-smi lists the GPUs 0 to 1"):
        gpus.pool()


def test_more_gpus_than_there_are_are_refused(two_gpus, tmp_path):
    with pytest.raises(UserError, match="leave 2 to use"), gpus.taken(3, tmp_path):
        pass


def test_a_machine_without_gpus_trains_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with gpus.taken(1, tmp_path / "locks"):
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert not (tmp_path / "locks").exists()


@pytest.fixture
def cpu_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "pool", list)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # so that what a test sets ends with it
    monkeypatch.delenv("GOMP_SPINCOUNT")
    return tmp_path


def test_threads_stay_awake_in_one_training_on_the_cpu_and_in_none_beside_it(cpu_alone):
    with gpus.taken(1, cpu_alone / "one checkout"):
        assert os.environ.pop("GOMP_SPINCOUNT") == gpus.SPINS
        with gpus.taken(1, cpu_alone / "another"):
            assert "GOMP_SPINCOUNT" not in os.environ
    with gpus.taken(1, cpu_alone):
        assert os.environ["GOMP_SPINCOUNT"] == gpus.SPINS


def test_a_training_on_the_cpu_needs_no_place_for_its_lock(cpu_alone):
    (cpu_alone / "preference-backbones").touch()
    with gpus.taken(1, cpu_alone):
        assert "GOMP_SPINCOUNT" not in os.environ


def test_gpus_are_taken_before_torch_looks_for_them():
    check = "import sys, stages.train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=REPO).returncode == 0
