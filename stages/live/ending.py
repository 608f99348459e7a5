"""Noticing that a training has ended, also if it was killed: a pipe from it ends."""

import select
from typing import TextIO


def has_ended(training: TextIO, seconds: float) -> bool:
    """Wait at most so long for the end of what a training's process holds open."""
    return bool(select.select([training], [], [], seconds)[0])
