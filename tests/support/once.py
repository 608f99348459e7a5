"""What the workers of a test session make once for all of them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker to ask has made. Nobody may change what lies in it."""
    session = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    folder, made = session / "once" / name, session / "once" / f"{name}.made"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(session / "once" / f"{name}.lock"):
        if not made.exists():
            make(folder)
            made.touch()
    return folder
