"""Telling how a training goes on, while it does: see stages.training.progress for the file."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from stages.config.params import Params
from stages.training import beside, progress
from stages.training.fold import CURVES, peak_memory
from stages.training.soft_targets import votes_alone
from stages.votes.labels import floored, votes_of

EVERY = 10  # seconds in which the losses are sent on; a shorter training's are only published
LAST_WORDS = 10  # seconds in which what follows a training may send the rest
ROOT = Path(__file__).parents[2]


class Telling(TrainerCallback):
    """Writes a training's logs into a file. Where it cannot, it says so, and the training goes on.

    Args:
        file: is continued where a killed training has left one.
        facts: of the fold, as stages.training.progress has them.
    """

    def __init__(self, file: Path, facts: dict) -> None:
        self.file = file
        if progress.read(file) is None:
            with _or_silent():
                progress.write(file, [facts])

    def on_train_begin(self, args: object, state: TrainerState, *_: object, **__: object) -> None:
        """Forget the steps after the checkpoint, which will be made and told again."""
        with _or_silent():
            known = list(progress.lines(self.file))
            kept = [line for line in known if line.get("step", 0) <= state.global_step]
            progress.write(self.file, kept)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **_: object,
    ) -> None:
        """Tell what was measured at this step."""
        measured = {name: logs[key] for key, name in CURVES.items() if key in logs}
        if measured:
            place = {"step": state.global_step, "steps": state.max_steps, "time": time.time()}
            cost = {"seconds": logs["train_seconds"], "tokens": logs["train_tokens"]}
            memory = {"memory_gib": peak_memory(args.device)}
            with _or_silent():
                progress.append(self.file, place | measured | cost | memory)


@contextmanager
def _or_silent() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        print(f"where the training stands cannot be told: {error}; it goes on", file=sys.stderr)


@contextmanager
def told(folder: Path, facts: dict) -> Iterator[list[TrainerCallback]]:
    """Hold the lock of a fold's training, and tell how it goes on.

    Args:
        folder: of its checkpoints. The lock and the file lie beside it; the file is removed once
            the training has ended well.
        facts: of the fold, as stages.training.progress has them.

    Returns:
        What train_fold takes as its callbacks.
    """
    with FileLock(progress.lock_beside(folder)):
        file = progress.file_beside(folder)
        telling = Telling(file, facts)
        with _followed(file):
            yield [telling]
        file.unlink(missing_ok=True)


@contextmanager
def _followed(file: Path) -> Iterator[None]:
    """Let another process send the file on, so that a server that is away costs no time.

    Its standard input ends with this process, however that ends, and before says how.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.follow", str(file), "--every", str(EVERY)],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    ended = "FAILED"
    try:
        yield
        ended = "FINISHED"
    except KeyboardInterrupt:
        ended = "KILLED"
        raise
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(ended, timeout=LAST_WORDS)
        process.kill()


def facts_of(params: Params, training: pd.DataFrame, held_out: pd.DataFrame) -> dict:
    """Further facts of a fold's training; see stages.training.progress.Progress."""
    return {
        "model": params.model,
        "scale": params.scale,
        "params": params.resolved(),
        "prior": prior_loss(training, held_out),
    }


def prior_loss(training: pd.DataFrame, held_out: pd.DataFrame) -> float:
    """The log loss of held-out votes by the class shares of the run's own training votes."""
    own, judging = votes_of(votes_alone(training[beside.own_votes(training)])), votes_of(held_out)
    return judging.mean(-judging.targets @ np.log(floored(own.shares[None]))[0])
