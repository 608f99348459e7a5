"""A command of this project that serves until it is interrupted, as a process."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import forked


@contextmanager
def served(command: str, folder: Path) -> Iterator[str]:
    """The address that `python -m stages.COMMAND` prints; it must end well when interrupted."""
    process = subprocess.Popen(
        [forked.commands() / "python", "-m", f"stages.{command}", "--port", "0"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "DVC_ROOT"},
        text=True,
    )
    try:
        yield process.stdout.readline().split()[0]
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in said
