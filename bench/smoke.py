"""Time `dvc repro` at scale smoke, then again with nothing to do.

    python -m bench.smoke 3

Run `dvc repro weights` once before it. It works in a temporary clone, so that the checkout and its
cache stay as they are. Prints the seconds of each run, their medians, and the peak memory of any
one process. Limits: 360 s and 6 GiB; 5 s for the second run.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stages.config.errors import UserError, stage
from stages.config.interrupts import run

REPO = Path(__file__).resolve().parent.parent


def timed(command: list[str], folder: Path) -> float:
    """Seconds of a command."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start = time.perf_counter()
    environment = os.environ | {"PATH": path}
    if run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL):
        raise UserError(f"{' '.join(command)} has failed, for the reason above")
    return time.perf_counter() - start


def once() -> tuple[float, float]:
    """Seconds of a first and of a second `dvc repro` in a new clone."""
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "-q", str(REPO), str(clone)], check=True)
        shutil.copytree(REPO / ".state/weights", clone / ".state/weights")
        return timed(["dvc", "repro"], clone), timed(["dvc", "repro"], clone)


@stage
def main() -> None:
    """Print the runs and their medians."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.smoke",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("repeats", type=int, nargs="?", default=1)
    repeats = parser.parse_args().repeats
    runs = []
    for number in range(1, repeats + 1):
        runs.append(once())
        print(f"run {number}: first {runs[-1][0]:.0f} s, second {runs[-1][1]:.1f} s", flush=True)
    first, second = (statistics.median(times) for times in zip(*runs, strict=True))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"median: first {first:.0f} s, second {second:.1f} s; peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
