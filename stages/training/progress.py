"""The file in which a running training says where it stands: one JSON line a log.

It lies beside the fold's checkpoints and goes when the fold has ended. The first line has the facts
of the fold. Each further one has a step, what was measured there, and what it has cost so far.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        facts: fold, fingerprint, checkpoint, model, scale, params, and prior, the log loss of the
            class shares.
        points: in order of their steps: step, steps (of the whole training), time (in seconds since
            1970), the curves' values that were measured, and so far: seconds of training, tokens,
            memory_gib.
        running: whether the training's process is alive.
    """

    facts: Mapping
    points: Sequence[Mapping[str, float]]
    running: bool


def file_beside(checkpoints: Path) -> Path:
    """The file of the fold whose checkpoints lie in a folder."""
    return checkpoints.with_suffix(".jsonl")


def lock_beside(checkpoints: Path) -> Path:
    """The lock that a fold's training holds as long as it lives."""
    return checkpoints.with_suffix(".lock")


def read(file: Path) -> Progress | None:
    """What a file says now; None if there is none, or nothing in it yet."""
    content = list(lines(file))
    return Progress(content[0], content[1:], _held(lock_beside(file))) if content else None


def lines(file: Path) -> Iterator[dict]:
    """Each line that was written to its end, if there is the file; a full disk leaves halves."""
    with suppress(FileNotFoundError):
        for line in file.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                yield json.loads(line)


def write(file: Path, content: Sequence[Mapping]) -> None:
    """Write a file anew; nobody reads half of it."""
    partial = file.with_suffix(".partial")
    partial.write_text("".join(map(_line, content)), encoding="utf-8")
    partial.replace(file)


def append(file: Path, content: Mapping) -> None:
    """Add a line."""
    with file.open("a", encoding="utf-8") as opened:
        opened.write(_line(content))


def _line(content: Mapping) -> str:
    return json.dumps(_finite(content), ensure_ascii=False) + "\n"


def _finite(content: Mapping) -> dict:
    """Without values that JSON does not know: gradients may be infinite for a step."""
    return {
        name: value
        for name, value in content.items()
        if not isinstance(value, float) or math.isfinite(value)
    }


def _held(lock: Path) -> bool:
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
