"""Following a training from beside it, so that what is sent on costs the training nothing."""

import sys
import time
from pathlib import Path
from typing import TextIO

from stages.live.ending import has_ended
from stages.live.files import Files
from stages.live.sending import Sending
from stages.runs.store import Unrecorded
from stages.training.progress import Progress, read

LATER = "The training goes on. Its losses are sent when the store is back, or by `publish`."


def follow(file: Path, training: TextIO, every: float) -> None:
    """Send a training's progress on, to DVCLive's files and to MLflow, until it ends.

    Args:
        file: in which it tells where it stands.
        training: ends with it, and before says how it ended, as MLflow calls that.
        every: seconds between two sendings; a store that is away gets more time.
    """
    files, store, wait = Files(), _Store(away=6 * every), 0.0
    while not has_ended(training, wait):
        if progress := _told(file):
            files.send(progress)
            store.send(progress)
        wait = every
    if progress := _told(file):
        files.send(progress)
        store.end(progress, training.read() or "KILLED")
    files.end()


def _told(file: Path) -> Progress | None:
    progress = read(file)
    return progress if progress and progress.points else None


class _Store:
    """MLflow's store, which may be away: that is said once, and it is then asked less often.

    Args:
        away: seconds in which it is not asked again.
    """

    def __init__(self, away: float) -> None:
        self.sending, self.away, self.asked_again = Sending(), away, 0.0

    def send(self, progress: Progress) -> None:
        if time.monotonic() < self.asked_again:
            return
        try:
            self.sending.send(progress)
            self.asked_again = 0.0
        except Unrecorded as error:
            if not self.asked_again:  # else it was said before
                _warn(error)
            self.asked_again = time.monotonic() + self.away

    def end(self, progress: Progress, status: str) -> None:
        """Send the rest to a run that there is; what has none is left to `publish`."""
        if not self.sending.run:
            return
        try:
            self.sending.send(progress)
            self.sending.end(status)
        except Unrecorded as error:
            _warn(error)


def _warn(error: Unrecorded) -> None:
    print(f"warning: {error}\n{LATER}", file=sys.stderr)
