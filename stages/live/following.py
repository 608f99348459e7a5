"""Following a training from beside it, so that what is sent on costs the training nothing."""

import sys
from pathlib import Path
from typing import TextIO

from stages.live.ending import has_ended
from stages.live.sending import Sending
from stages.runs.store import Unrecorded
from stages.training.progress import read

LATER = "The training goes on. Its losses are sent when the store is back, or by `publish`."


def follow(file: Path, training: TextIO, every: float) -> None:
    """Send a training's progress on until it ends.

    Args:
        file: in which it tells where it stands.
        training: ends with it, and before says how it ended, as MLflow calls that.
        every: seconds between two sendings; a store that is away gets more time.
    """
    sending, wait, away = Sending(), 0.0, 6 * every
    while not has_ended(training, wait):
        try:
            _send(sending, file)
            wait = every
        except Unrecorded as error:
            if wait < away:  # else it was said before
                _warn(error)
            wait = away
    if sending.run:
        try:
            _send(sending, file)
            sending.end(training.read() or "KILLED")
        except Unrecorded as error:
            _warn(error)


def _send(sending: Sending, file: Path) -> None:
    progress = read(file)
    if progress and progress.points:
        sending.send(progress)


def _warn(error: Unrecorded) -> None:
    print(f"warning: {error}\n{LATER}", file=sys.stderr)
