"""A command that is interrupted ends with all that it has started, whichever process is told."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from stages.config.errors import GO_ON
from tests.support.interrupts import sigint
from tests.support.places import REPO

# Three processes that meet signals as settle, DVC and a training do.
COMMAND = """
import sys
from stages.config import interrupts
from stages.config.errors import stage
interrupts.PATIENCE = 3
stage(lambda: sys.exit(interrupts.run([sys.executable, "-c", *sys.argv[1:]])))()
"""
DVC = """
import signal, subprocess, sys
training = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as long as a stage runs
training.wait()
print("DVC has cleaned up")
"""
TRAINING = """
import time
from stages.config.errors import stage
def main():
    print("begun", flush=True)
    time.sleep(600)
stage(main)()
"""


def ended(how: Callable[[subprocess.Popen], None], ignored: bool = False) -> tuple[int, str, str]:
    """The exit status of the command, and what all three say once it is interrupted.

    Args:
        ignored: they ignore SIGINT.
    """
    with sigint(ignored):
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, DVC, TRAINING],
            env=os.environ | {"PYTHONPATH": str(REPO)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
    assert process.stdout.readline() == "begun\n"
    how(process)
    printed, said = process.communicate(timeout=60)  # which waits for the last that could write
    return process.returncode, printed, said


def terminate(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM)


def interrupt(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGINT)


def ctrl_c(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGINT)


def timeout(process: subprocess.Popen) -> None:
    """As timeout(1) does."""
    process.send_signal(signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.parametrize(("how", "status"), [(terminate, 143), (interrupt, 130), (ctrl_c, 130)])
def test_what_it_has_started_ends_in_words_and_dvc_cleans_up(how, status):
    assert ended(how) == (status, "DVC has cleaned up\n", f"{GO_ON}\n" * 2)


def test_where_sigint_is_ignored_what_it_has_started_ends_too():
    status, printed, said = ended(terminate, ignored=True)
    assert (status, printed) == (143, "")
    assert said.count(GO_ON) == 2 and "Traceback" not in said


def test_sigterm_to_all_and_twice_to_one_ends_all():
    status, _, said = ended(timeout)
    assert status == 143 and GO_ON in said


def test_one_of_several_processes_that_train_together_is_ended_by_torchrun_at_once():
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        env=os.environ | {"PYTHONPATH": str(REPO), "LOCAL_RANK": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process, process.stdout:
        assert process.stdout.readline() == "begun\n"
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM
