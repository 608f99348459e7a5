"""Time the stages prepare and split on a file of the competition's size.

    python -m bench.prepare_57k VOTES.csv.gz

Repeats the given votes (.csv or .csv.gz) until there are 57,477 rows. Each row gets its own id, and
a number after its first prompt, so that no two prompts are equal. All rows go into five folds.
Prints the seconds and the peak memory of each stage. Limits: 60 s for both together, and 4 GiB.
"""

import argparse
import csv
import gzip
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

REPO = Path(__file__).resolve().parent.parent
ROWS = 57_477


def resample(votes: Path, raw: Path) -> None:
    """Write ROWS rows made from the votes' own."""
    csv.field_size_limit(2**31 - 1)
    opened = gzip.open if votes.suffix == ".gz" else open
    with opened(votes, "rt", encoding="utf-8", newline="") as file:
        original = list(csv.DictReader(file))
    with raw.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, original[0])
        writer.writeheader()
        for number, row in enumerate(itertools.islice(itertools.cycle(original), ROWS)):
            first, *others = json.loads(row["prompt"])
            prompt = json.dumps([f"{first} {number // len(original)}", *others])
            writer.writerow(row | {"id": number, "prompt": prompt})


def run(stage: str, folder: Path) -> tuple[float, float]:
    """Run a stage in a process of its own; give its seconds and its peak memory in GiB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPO)},
    )
    # Not getrusage(RUSAGE_CHILDREN), which gives the largest of all children so far.
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{stage} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


def main() -> None:
    """Make the file, run both stages, print a line for each."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.prepare_57k",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("votes", type=Path, help="a file of votes, .csv or .csv.gz")
    votes = parser.parse_args().votes
    params = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    params["data"]["raw"] = "raw.csv"
    params["split"]["folds"] = [0, 1, 2, 3, 4]
    params["scales"][params["scale"]]["rows"] = None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        resample(votes, folder / "raw.csv")
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        print(f"{ROWS} rows, {(folder / 'raw.csv').stat().st_size / 1e6:.0f} MB", flush=True)
        for stage in ("prepare", "split"):
            seconds, gib = run(stage, folder)
            print(f"{stage}: {seconds:.1f} s, {gib:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
