"""GPUs shared by the trainings that run at one time on one machine, as DVC's queue starts them.

A training locks the GPUs that it takes by a file each. The operating system frees a lock when its
process ends, however it ends. All this comes before torch is imported, which then sees no GPU but
those of CUDA_VISIBLE_DEVICES.
"""

import os
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from stages.config.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
# How often a waiting thread looks for work before it sleeps: for less than a millisecond. Waking it
# for each small product took up to a quarter of a training's time. But two trainings that both look
# take twice as long on the same cores, so only one does: see also stages/devices/__init__.py.
SPINS = "10000"


def wanted() -> int:
    """How many GPUs the variable GPUS asks for: one if it is not set.

    Raises:
        UserError: it is no such number.
    """
    given = os.environ.get("GPUS", "1")
    if not given.isdecimal() or int(given) == 0:
        raise UserError(f"expected a number of GPUs in the variable GPUS, found {given!r}")
    return int(given)


@contextmanager
def taken(count: int, locks: Path) -> Iterator[None]:
    """Hold that many GPUs, free ones, and show no others; waits until there are as many.

    On a machine without GPUs a single training runs on the CPU, and holds that if no other does.

    Args:
        locks: the folder of the lock files, the same for all who share the GPUs.

    Raises:
        UserError: more are wanted than there are.
    """
    gpus = pool()
    if count > max(len(gpus), 1):
        raise UserError(
            f"GPUS={count}, but nvidia-smi and {VISIBLE} leave {len(gpus)} to use: ask for fewer"
        )
    with ExitStack() as held:
        if gpus:
            locks.mkdir(parents=True, exist_ok=True)
            os.environ[VISIBLE] = ",".join(_wait(count, gpus, locks, held))
        else:
            _hold_cpu(held)
        yield


def _hold_cpu(held: ExitStack) -> None:
    """Let waiting threads stay awake for a moment, unless another training holds the CPU."""
    locks = Path(tempfile.gettempdir()) / "preference-backbones"  # one for all checkouts
    with suppress(OSError):  # where no lock can be written, they sleep at once
        locks.mkdir(exist_ok=True)
        if _take(1, ["cpu"], locks, held):
            os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def pool() -> list[str]:
    """The UUIDs of the GPUs that may be used: all, or those of CUDA_VISIBLE_DEVICES.

    Raises:
        UserError: CUDA_VISIBLE_DEVICES has a number that no GPU has.
    """
    gpus = _installed()
    named = [entry.strip() for entry in os.environ.get(VISIBLE, ",".join(gpus)).split(",")]
    if not gpus or named[0] in ("", "-1"):
        return []
    wrong = [entry for entry in named if entry.isdigit() and int(entry) >= len(gpus)]
    if wrong:
        raise UserError(
            f"{VISIBLE} has the number {wrong[0]}; nvidia-smi lists the GPUs 0 to {len(gpus) - 1}"
        )
    return [gpus[int(entry)] if entry.isdigit() else entry for entry in named]


def _installed() -> list[str]:
    """As nvidia-smi lists them, by number; none where there is no driver."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        return []
    return re.findall(r"^GPU \d+: .*\(UUID: (.+)\)$", listed, re.MULTILINE)


def _wait(count: int, gpus: Sequence[str], locks: Path, held: ExitStack) -> list[str]:
    told = False
    while not (found := _take(count, gpus, locks, held)):
        if not told:
            print(f"waiting for {count} of {len(gpus)} GPUs: others train on them", flush=True)
            told = True
        time.sleep(random.uniform(0.5, 1.5))  # no two that collide do so again and again
    return found


def _take(count: int, gpus: Sequence[str], locks: Path, held: ExitStack) -> list[str]:
    """All or none, so that no two wait for what the other holds."""
    with ExitStack() as attempt:
        found: list[str] = []
        for gpu in gpus:
            with suppress(Timeout):
                attempt.enter_context(FileLock(locks / f"{gpu}.lock", blocking=False))
                found.append(gpu)
            if len(found) == count:
                held.push(attempt.pop_all())
                return found
    return []
