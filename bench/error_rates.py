"""How often the verdict is wrong: simulated pairs of runs, judged by the code that compare calls.

    python -m bench.error_rates

Prints the tables of docs/verdict.md, which says what they mean; five minutes on one core. A
simulation has 1,000 bootstrap draws where compare has 10,000.
"""

import argparse
import os
import time
from collections.abc import Iterator
from itertools import combinations

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from stages.comparison import paired
from stages.comparison.verdict import CONFIDENCE, DELTA, by_intervals
from stages.planning.worlds import (
    ARENA,
    FOLD_EFFECT,
    FOLDS,
    SAMPLE,
    SHARED,
    STEADY_EFFECT,
    World,
    at_rows,
    effects,
    prompts,
    votes,
)
from stages.scoring.bootstrap import cluster_bootstrap

SIMULATIONS, BATCH, DRAWS = 1_000, 100, 1_000
ARENA_EFFECT = at_rows(FOLD_EFFECT, ARENA)

WORLDS = [
    World(SAMPLE),
    World(SAMPLE, 0, FOLD_EFFECT),
    World(SAMPLE, 0, FOLD_EFFECT, SHARED),
    World(SAMPLE, 0, STEADY_EFFECT, SHARED),
    World(SAMPLE, 0.014, STEADY_EFFECT, SHARED),  # as found with sft
    World(ARENA),
    World(ARENA, 0, ARENA_EFFECT),
    World(ARENA, 0, ARENA_EFFECT, SHARED),
    World(ARENA, 0, FOLD_EFFECT, SHARED),
    World(ARENA, DELTA, ARENA_EFFECT, SHARED),
    World(ARENA, 0.01, ARENA_EFFECT, SHARED),
    World(ARENA, 0.02),
    World(ARENA, 0.02, ARENA_EFFECT),
    World(ARENA, 0.02, ARENA_EFFECT, SHARED),
    World(ARENA, 0.02, 0.005, SHARED),
    World(ARENA, 0.02, FOLD_EFFECT / 3**0.5, SHARED),  # as with three seeds averaged
    World(ARENA, 0.02, FOLD_EFFECT, SHARED),
]


# Verdicts


def comparisons(world: World) -> Iterator[tuple[dict, float]]:
    """SIMULATIONS pairs as compare judges them, and the true difference of the models trained.

    A batch shares prompts, folds and bootstrap draws; votes and trainings are each pair's own.
    """
    for seed in range(SIMULATIONS // BATCH):
        rng = np.random.default_rng(seed)
        prompt = prompts(world.rows, rng)
        fold = rng.permutation(prompt.max() + 1)[prompt] % FOLDS
        trained = effects(world, BATCH, rng)
        found = votes(prompt, BATCH, rng) + trained[fold]
        drawn = cluster_bootstrap(found, prompt, DRAWS, seed)
        true = np.bincount(fold) / len(fold) @ trained
        for i in range(BATCH):
            yield pair(found[:, i], drawn[:, i], fold), float(true[i])


def pair(found: np.ndarray, drawn: np.ndarray, fold: np.ndarray) -> dict:
    """As comparison.pairs has it, from the votes' differences and the draws of their mean."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    folds = paired.corrected_t(found, fold, CONFIDENCE)
    p = max(paired.p_value(drawn), folds["p_value"])
    mean = float(found.mean())
    return {"difference": mean, "low": low, "high": high, "folds": folds, "p_value": p}


def rates(world: World) -> dict[str, float]:
    """Shares of the simulations: of verdicts, and of intervals that hold the truth."""
    rows = []
    for found, trained in comparisons(world):
        said = by_intervals(found, found["folds"], found["p_value"], DELTA)
        rows.append(
            (
                said == "better",
                found["low"] > 0 or found["high"] < 0,
                said == "equivalent",
                found["low"] <= trained <= found["high"],
                found["low"] <= world.difference <= found["high"],
                found["folds"]["low"] <= world.difference <= found["folds"]["high"],
            )
        )
    names = ("better", "bootstrap alone", "equivalent", "trained", "bootstrap", "folds")
    return dict(zip(names, np.mean(rows, axis=0), strict=True))


def family(world: World, runs: int = 3) -> float:
    """The share of simulations in which any of several equal backbones is found better."""
    false = []
    for seed in range(SIMULATIONS // BATCH):
        rng = np.random.default_rng(seed)
        prompt = prompts(world.rows, rng)
        fold = rng.permutation(prompt.max() + 1)[prompt] % FOLDS
        # The difference of two such has the spread that the real difference has.
        losses = [
            (votes(prompt, BATCH, rng) + effects(world, BATCH, rng)[fold]) / 2**0.5
            for _ in range(runs)
        ]
        found = [a - b for a, b in combinations(losses, 2)]
        drawn = [cluster_bootstrap(each, prompt, DRAWS, seed) for each in found]
        false += [
            any_better([pair(f[:, i], d[:, i], fold) for f, d in zip(found, drawn, strict=True)])
            for i in range(BATCH)
        ]
    return float(np.mean(false))


def any_better(pairs: list[dict]) -> bool:
    """Whether any pair is found better once their p values are adjusted."""
    adjusted = paired.holm([each["p_value"] for each in pairs])
    said = [by_intervals(f, f["folds"], p, DELTA) for f, p in zip(pairs, adjusted, strict=True)]
    return "better" in said


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m bench.error_rates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    start = time.monotonic()
    titles = ("better", "bootstrap alone", "equivalent", "trained", "bootstrap", "folds")
    print("| rows | difference | fold effect | shared |", " | ".join(titles), "|")
    print("|---" * (4 + len(titles)) + "|")
    for world in WORLDS:
        facts = f"{world.rows:,} | {world.difference:g} | {world.effect:.4f} | {world.shared:g}"
        found = " | ".join(f"{100 * rate:.1f}" for rate in rates(world).values())
        print(f"| {facts} | {found} |", flush=True)
    three = family(World(SAMPLE, 0, FOLD_EFFECT, SHARED))
    print(f"\nthree equal backbones, any found better: {100 * three:.1f} %")
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
