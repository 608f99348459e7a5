"""How often the verdict is right, on simulated pairs of runs: python bench/verdict.py

Prints for each setting the share of verdicts, and how often each interval holds what it claims to:
the bootstrap the difference of the trained models, the t interval that of training as such.

Sizes are those of two small backbones on 2,471 real votes (docs/results.md): the spread of the
per-vote difference and its heavy tails, votes a prompt group, and the fold effects, which are what
is left of the spread between folds once chance over votes is taken out. At 57,477 votes they are
taken to shrink as training on more votes does, by the square root of the ratio.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))

from stages.bootstrap import cluster_bootstrap
from stages.compare import differences
from stages.compare.verdict import CONFIDENCE, DELTA, conclude

SPREAD = 0.255  # standard deviation of the per-vote difference of log loss
TAILS = 8  # degrees of freedom of its t distribution: excess kurtosis 1.5 against 1.8 found
TOGETHER = 0.3  # correlation of two votes on one prompt; not measured: too few share one
GROUPED = 0.035  # share of groups with more than one vote
FOLD_EFFECT = 0.0134  # at ROWS votes
ROWS, ALL_ROWS = 2471, 57477
FOLDS = 5


class Setting(NamedTuple):
    """Two backbones whose log losses differ by `difference` if trained often enough."""

    name: str
    rows: int
    difference: float
    fold_effect: float


SHRUNK = FOLD_EFFECT * (ROWS / ALL_ROWS) ** 0.5
SETTINGS = [
    Setting("equal, 2,471 votes", ROWS, 0.0, FOLD_EFFECT),
    Setting("equal, 2,471 votes, no fold effects", ROWS, 0.0, 0.0),
    Setting("0.02 apart, 2,471 votes", ROWS, 0.02, FOLD_EFFECT),
    Setting("equal, 57,477 votes", ALL_ROWS, 0.0, SHRUNK),
    Setting("0.02 apart, 57,477 votes", ALL_ROWS, 0.02, SHRUNK),
]


def simulate(setting: Setting, rng: np.random.Generator) -> tuple[np.ndarray, pd.DataFrame, float]:
    """Per-vote differences (n,), their group and fold, and the trained models' own difference."""
    sizes = np.where(rng.random(setting.rows) < GROUPED, 2, 1)
    group = np.repeat(np.arange(len(sizes)), sizes)[: setting.rows]
    fold = group % FOLDS
    # Models of two folds share most of their training votes: Nadeau and Bengio's correlation 1/k.
    shared, own = rng.normal(), rng.normal(size=FOLDS)
    effect = setting.fold_effect * (shared / FOLDS**0.5 + own * (1 - 1 / FOLDS) ** 0.5)
    noise = [rng.standard_t(TAILS, size=n) for n in (len(sizes), setting.rows)]
    unit = (TAILS / (TAILS - 2)) ** 0.5
    mixed = TOGETHER**0.5 * noise[0][group] + (1 - TOGETHER) ** 0.5 * noise[1]
    means = setting.difference + effect[fold]
    table = pd.DataFrame({"group": group, "fold": fold})
    return means + SPREAD / unit * mixed, table, float(means.mean())


def trial(setting: Setting, draws: int, seed: int) -> dict:
    """One pair of runs: its verdict, and whether each interval holds its truth."""
    difference, rows, trained = simulate(setting, np.random.default_rng(seed))
    drawn = cluster_bootstrap(difference[:, None], rows.group.to_numpy(), draws, seed)[:, 0]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    folds = differences.corrected_t(difference, rows.fold.to_numpy(), CONFIDENCE)
    p = max(differences.p_value(drawn), folds["p_value"])
    primary = {"low": low, "high": high}
    return {
        "verdict": conclude(primary, folds, p, DELTA),
        "bootstrap alone": bool(low > 0 or high < 0),
        "bootstrap covers": bool(low < trained < high),
        "t covers": bool(folds["low"] < setting.difference < folds["high"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--trials", type=int, default=1000, help="of 2,471 votes; a fifth of 57,477"
    )
    parser.add_argument("--draws", type=int, default=1000, help="of each bootstrap")
    options = parser.parse_args()
    print(
        "setting | trials | better | equivalent | undecided | bootstrap alone excludes 0 | "
        "bootstrap covers | t covers"
    )
    for setting in SETTINGS:
        trials = options.trials if setting.rows == ROWS else options.trials // 5
        seeds = tqdm(range(trials), desc=setting.name, leave=False)
        found = pd.DataFrame([trial(setting, options.draws, seed) for seed in seeds])
        shares = [
            f"{(found.verdict == v).mean():.3f}" for v in ("better", "equivalent", "undecided")
        ]
        rest = [f"{found[name].mean():.3f}" for name in found.columns[1:]]
        print(" | ".join([setting.name, str(trials), *shares, *rest]), flush=True)


if __name__ == "__main__":
    main()
