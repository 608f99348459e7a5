"""Time the stages that need no backbone, and evaluate, on as many votes as the competition has.

    python -m bench.votes VOTES [--rows 57477] [--stages prepare split baselines evaluate]

Makes the votes from those of VOTES (.csv or .csv.gz) again and again. Each row gets its own
id, and a number after its first prompt, so that no two prompts are equal. Each answer is cut in two
and joined the other way round, with a word of its own between. All rows go into five folds. For
`evaluate` a backbone's predictions are made up; nothing is trained.
Prints each stage's seconds, those of the processor, and its peak memory. Limits, on two cores that
do nothing else: 120 s for prepare, split, baselines and evaluate together, and 3 GiB, with 57,477
votes; 4 GiB for prepare and split with 500,000.
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

import numpy as np
import pandas as pd
import yaml

REPO = Path(__file__).resolve().parent.parent
STAGES = ("prepare", "split", "baselines", "evaluate")
FOLDS = [0, 1, 2, 3, 4]
CURVES = """\
step,epoch,training_loss,validation_loss,lr,grad_norm
1,0.1,1.0986,,0.0,1.0
10,1.0,1.05,1.04,0.0001,1.0
"""


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


def make_up_predictions(folder: Path) -> None:
    """Write what the folds' trainings leave behind: logits by chance, a little for the vote."""
    (folder / "data/predictions").mkdir(parents=True)
    (folder / "metrics/folds").mkdir(parents=True)
    battles = pd.read_parquet(folder / "data/prepared/battles.parquet", columns=["id", "label"])
    battles = battles.merge(pd.read_parquet(folder / "data/folds/folds.parquet"), on="id")
    summary = json.loads((REPO / "metrics/provenance.json").read_text(encoding="utf-8"))[0]
    for fold in FOLDS:
        rows = battles[battles.fold == fold]
        name = f"fold-{fold}"
        logits(rows, fold).to_parquet(folder / f"data/predictions/{name}.parquet", index=False)
        text = json.dumps(summary | {"fold": fold})
        (folder / f"metrics/folds/{name}.json").write_text(text, encoding="utf-8")
        (folder / f"metrics/folds/{name}.csv").write_text(CURVES, encoding="utf-8")


def logits(rows: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Made-up logits of both orders: chance, and something for the vote."""
    dice = np.random.default_rng(fold)
    votes = np.eye(3)[rows.label]
    found = pd.DataFrame({"id": rows.id, "tokens": 500, "tokens_dropped": 0})
    for order in ("ab", "ba"):
        names = [f"{order}_{label}" for label in ("a", "b", "tie")]
        found[names] = dice.normal(size=votes.shape) / 2 + votes / 2
    return found


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
        prog="python -m bench.votes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("votes", type=Path, help="a file of votes, .csv or .csv.gz")
    parser.add_argument("--rows", type=int, default=57_477)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    return parser.parse_args()


def main() -> None:
    """Make the file, run the stages, print a line for each and one for all."""
    arguments = parse()
    params = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    params["data"]["raw"] = "raw.csv"
    params["split"]["folds"] = FOLDS
    params["scales"][params["scale"]]["rows"] = None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        resample(arguments.votes, folder / "raw.csv", arguments.rows)
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        size = (folder / "raw.csv").stat().st_size / 1e6
        print(f"{arguments.rows} rows, {size:.0f} MB", flush=True)
        found = []
        for stage in arguments.stages:
            if stage == "evaluate":
                make_up_predictions(folder)
            found.append(run(stage, folder))
            print(f"{stage}: {shown(*found[-1])}", flush=True)
        seconds, busy, peaks = zip(*found, strict=True)
        print(f"together: {shown(sum(seconds), sum(busy), max(peaks))}")


def shown(seconds: float, busy: float, peak: float) -> str:
    """What `run` gives, in words."""
    return f"{seconds:.1f} s, {busy:.1f} s of processor, {peak:.2f} GiB"


if __name__ == "__main__":
    main()
