"""How a command that is interrupted, by Ctrl-C or by SIGTERM, ends with all that it has started."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import psutil

PATIENCE = 15  # seconds; a training sends its last losses before it ends


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


STATUS = {KeyboardInterrupt: 128 + signal.SIGINT, Terminated: 128 + signal.SIGTERM}


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise Terminated."""
    if "LOCAL_RANK" in os.environ:  # torchrun's; one that waits for another in NCCL would hang
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # timeout(1) sends it twice
    raise Terminated


def run(words: Sequence[str], **options: Any) -> int:
    """Run a command, and give its exit status; if interrupted, wait for its end all the same.

    Ctrl-C in a terminal reaches all processes. SIGTERM, or SIGINT from a program, may reach this
    one alone, and is then passed on: as SIGINT, on which DVC removes its temporary folder; or as
    SIGTERM where SIGINT is ignored, as it is in what a script starts with `&`.

    Args:
        options: of subprocess.Popen.
    """
    process = psutil.Popen(words, **options)
    try:
        return process.wait()
    except KeyboardInterrupt as how:
        started = [process, *process.children(recursive=True)]
        patience = 0 if isinstance(how, Terminated) else PATIENCE
        _, left = psutil.wait_procs(started, timeout=patience)
        ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGTERM if ignored else signal.SIGINT)
        process.wait()
        raise
