"""Time the stages prepare, split and baselines on 120,000 votes.

    python -m bench.votes_120k VOTES [--rows 120000] [--stages prepare split baselines]

Makes the votes from those of VOTES (.csv or .csv.gz) again and again. Each row gets its own
id, and a number after its first prompt, so that no two prompts are equal. Each answer is cut in two
and joined the other way round, with a word of its own between. All rows go into five folds.
Prints each stage's seconds, those of the processor, and its peak memory. Limits, on two cores that
do nothing else: 300 s for all three together, and 4 GiB.
"""

import argparse
import csv
import gzip
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

REPO = Path(__file__).resolve().parent.parent
STAGES = ("prepare", "split", "baselines")


def resample(votes: Path, raw: Path, rows: int) -> None:
    """Write as many rows made from the votes' own."""
    csv.field_size_limit(2**31 - 1)
    opened = gzip.open if votes.suffix == ".gz" else open
    with opened(votes, "rt", encoding="utf-8", newline="") as file:
        original = list(csv.DictReader(file))
    dice = random.Random(0)
    with raw.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, original[0])
        writer.writeheader()
        for number, row in enumerate(itertools.islice(itertools.cycle(original), rows)):
            first, *others = json.loads(row["prompt"])
            prompt = json.dumps([f"{first} {number // len(original)}", *others])
            answers = {
                name: _altered(row[name], number, dice) for name in ("response_a", "response_b")
            }
            writer.writerow(row | answers | {"id": number, "prompt": prompt})


def _altered(answer: str, number: int, dice: random.Random) -> str:
    """The turns of an answer, as JSON, with the words of each in another order, and one more."""
    turns = []
    for turn in json.loads(answer):
        words = (turn or "").split(" ")
        cut = dice.randrange(len(words))
        turns.append(" ".join([*words[cut:], f"{dice.choice('xyz')}{number}", *words[:cut]]))
    return json.dumps(turns)


def run(stage: str, folder: Path) -> tuple[float, float, float]:
    """Run a stage in a process of its own: its seconds, the processor's, and its peak in GiB."""
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
    seconds = time.perf_counter() - start
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def parse() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.votes_120k",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("votes", type=Path, help="a file of votes, .csv or .csv.gz")
    parser.add_argument("--rows", type=int, default=120_000)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    return parser.parse_args()


def main() -> None:
    """Make the file, run the stages, print a line for each and one for all."""
    arguments = parse()
    params = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    params["data"]["raw"] = "raw.csv"
    params["split"]["folds"] = [0, 1, 2, 3, 4]
    params["scales"][params["scale"]]["rows"] = None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        resample(arguments.votes, folder / "raw.csv", arguments.rows)
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        size = (folder / "raw.csv").stat().st_size / 1e6
        print(f"{arguments.rows} rows, {size:.0f} MB", flush=True)
        found = []
        for stage in arguments.stages:
            found.append(run(stage, folder))
            print(f"{stage}: {shown(*found[-1])}", flush=True)
        seconds, busy, peaks = zip(*found, strict=True)
        print(f"together: {shown(sum(seconds), sum(busy), max(peaks))}")


def shown(seconds: float, busy: float, peak: float) -> str:
    """What `run` gives, in words."""
    return f"{seconds:.1f} s, {busy:.1f} s of processor, {peak:.2f} GiB"


if __name__ == "__main__":
    main()
