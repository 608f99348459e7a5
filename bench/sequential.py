"""How often looking while trainings are added is wrong, and what it saves: simulated races.

    python -m bench.sequential

Prints the tables of docs/verdict.md, which says what they mean; some minutes on one core. The votes
and the sizes are those of bench.error_rates, the looks and the rule those of stages.settle. A
simulation has 4,000 bootstrap draws where compare has 10,000.
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from bench.error_rates import ARENA_EFFECT, BATCH, SIMULATIONS
from stages.comparison import paired
from stages.comparison.looks import ONLY, Look
from stages.comparison.verdict import DELTA, by_intervals
from stages.planning.worlds import (
    ARENA,
    FOLD_EFFECT,
    FOLDS,
    SAMPLE,
    SHARED,
    STEADY_EFFECT,
    World,
    effects,
    prompts,
    votes,
)
from stages.scoring.bootstrap import cluster_bootstrap
from stages.settling.plan import Plan, Step, steps
from stages.settling.standing import standing

DRAWS = 4_000
PLANS = {"one seed": steps([1], FOLDS), "three seeds": steps([1, 2, 3], FOLDS)}
EQUAL = [
    World(rows, 0, effect, shared)
    for rows in (SAMPLE, ARENA)
    for effect in (0, STEADY_EFFECT, FOLD_EFFECT)
    for shared in (0, SHARED)
    if effect or not shared
]
DIFFERENT = [
    World(SAMPLE, 0.014, STEADY_EFFECT, SHARED),  # as found with sft
    World(SAMPLE, 0.03, STEADY_EFFECT, SHARED),
    World(SAMPLE, 0.05, FOLD_EFFECT, SHARED),
    World(ARENA, 0.01, ARENA_EFFECT, SHARED),
    World(ARENA, 0.02, ARENA_EFFECT, SHARED),
    World(ARENA, 0.03, ARENA_EFFECT, SHARED),
    World(ARENA, 0.02, FOLD_EFFECT, SHARED),
    World(ARENA, 0.05, FOLD_EFFECT, SHARED),
]


@dataclass(frozen=True)
class Votes:
    """The votes' part of the differences of each two of some backbones, for a batch of simulations.

    What trainings add is the same for all votes of a fold. So fold means and the draws of the
    mean say all, and any trainings can be added to them.

    Attributes:
        seed: of the batch.
        means: (FOLDS, pairs * BATCH) mean of each fold.
        drawn: for each number of folds (DRAWS, pairs * BATCH + FOLDS): the draws of the mean of
            their votes, and of each fold's share of the votes.
    """

    seed: int
    means: np.ndarray
    drawn: dict[int, np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """What a race of backbones ends with.

    Attributes:
        verdict: as stages.settling.standing has it.
        better: whether any backbone was called better than another.
        trainings: of a fold, of all backbones together.
    """

    verdict: str
    better: bool
    trainings: int


def votes_of(rows: int, backbones: int) -> Iterator[Votes]:
    """Batches of votes, which all worlds of this size share."""
    for seed in range(SIMULATIONS // BATCH):
        rng = np.random.default_rng(seed)
        prompt = prompts(rows, rng)
        fold = rng.permutation(prompt.max() + 1)[prompt] % FOLDS
        found = differences([votes(prompt, BATCH, rng) for _ in range(backbones)])
        means = np.array([found[fold == k].mean(axis=0) for k in range(FOLDS)])
        drawn = {}
        for count in sorted({step.folds for step in PLANS["one seed"]}):
            held = fold < count
            columns = np.hstack([found[held], np.eye(FOLDS)[fold[held]]])
            drawn[count] = cluster_bootstrap(columns, prompt[held], DRAWS, seed)
        yield Votes(seed, means, drawn)


def differences(losses: Sequence[np.ndarray]) -> np.ndarray:
    """Of each two of some backbones, side by side: (n, pairs * BATCH).

    The backbones' own losses (n, BATCH) are scaled so that a difference has the spread that the
    real one has.
    """
    return np.hstack([(a - b) / 2**0.5 for a, b in combinations(losses, 2)])


def trained(world: World, backbones: int, seed: int, seeds: int) -> list[np.ndarray]:
    """What the trainings of each seed add to the differences: (FOLDS, pairs * BATCH) a seed.

    Seeds share nothing. The backbones are equal but for the first, which is better by the
    world's difference.
    """
    rng, equal = np.random.default_rng([seed, 1]), World(world.rows, 0, world.effect, world.shared)
    behind = differences([np.full((1, BATCH), 2**0.5 * (k > 0)) for k in range(backbones)])
    return [
        differences([effects(equal, BATCH, rng) for _ in range(backbones)])
        + world.difference * behind
        for _ in range(seeds)
    ]


def measured(batch: Votes, added: np.ndarray, folds: int, look: Look) -> list[dict]:
    """Every pair of every simulation as comparison.pairs has it, at the level of a look.

    Args:
        added: (FOLDS, pairs * BATCH) by the trainings, mean over seeds.
        folds: how many are trained.
    """
    own, shares = np.split(batch.drawn[folds], [added.shape[1]], axis=1)
    drawn, means = own + shares @ added, (batch.means + added)[:folds]
    low, high = np.quantile(drawn, [look.level / 2, 1 - look.level / 2], axis=0)
    found = []
    for i in range(added.shape[1]):
        over = paired.corrected_t(means[:, i], np.arange(folds), look.confidence, of=FOLDS)
        p = max(paired.p_value(drawn[:, i]), over["p_value"])
        found.append({"low": low[i], "high": high[i], "folds": over, "p_value": p})
    return found


def judged(pairs: dict[tuple[str, str], dict], look: Look) -> list[dict]:
    """The verdict on each pair of one simulation, as stages.settling.standing takes it."""
    adjusted = paired.holm([pair["p_value"] for pair in pairs.values()])
    return [
        {
            "a": a,
            "b": b,
            "difference": pair["folds"]["difference"],
            "verdict": by_intervals(pair, pair["folds"], p, DELTA, look.level),
        }
        for ((a, b), pair), p in zip(pairs.items(), adjusted, strict=True)
    ]


def race(models: list[str], plan: list[Step], at: list[list[dict]]) -> Outcome:
    """One simulation, as stages.settle goes through it.

    Args:
        at: at each look the measured pairs, of each two models in order.
    """
    every, left, made, better = list(combinations(models, 2)), models, 0, False
    for number, step in enumerate(plan, 1):
        made += step.new * len(left)
        both = dict(zip(every, at[number - 1], strict=True))
        pairs = {key: pair for key, pair in both.items() if set(key) <= set(left)}
        said = judged(pairs, Look(number, len(plan)))
        better |= any(pair["verdict"] == "better" for pair in said)
        found = standing(left, said)
        left = found.left
        if found.verdict != "undecided":
            break
    return Outcome(found.verdict, better, made)


def races(
    world: World, plan: list[Step], batch: Votes, backbones: int
) -> Iterator[tuple[Outcome, Outcome]]:
    """Each simulation of a batch by looks, and as it ends if it is judged once, after the last."""
    whole = Plan([], [], plan, FOLDS)
    added = trained(world, backbones, batch.seed, len(whole.runs(len(plan))))
    at = [
        measured(
            batch,
            np.mean(added[: len(whole.runs(number))], axis=0),
            step.folds,
            Look(number, len(plan)),
        )
        for number, step in enumerate(plan, 1)
    ]
    once = measured(batch, np.mean(added, axis=0), FOLDS, ONLY)
    every = [Step(1, FOLDS, sum(step.new for step in plan))]
    models = [str(k) for k in range(backbones)]
    for i in range(BATCH):
        yield (
            race(models, plan, [look[i::BATCH] for look in at]),
            race(models, every, [once[i::BATCH]]),
        )


def rates(world: World, plan: list[Step], batches: list[Votes], backbones: int) -> dict[str, float]:
    """Shares of the simulations, and of the trainings."""
    found = [pair for batch in batches for pair in races(world, plan, batch, backbones)]
    looked, once = zip(*found, strict=True)
    made, planned = (sum(each.trainings for each in ends) for ends in (looked, once))
    return {
        "better": float(np.mean([each.better for each in looked])),
        "better, once": float(np.mean([each.better for each in once])),
        "equivalent": float(np.mean([each.verdict == "equivalent" for each in looked])),
        "equivalent, once": float(np.mean([each.verdict == "equivalent" for each in once])),
        "saved": 1 - made / planned,
    }


def table(worlds: Sequence[World], backbones: int) -> None:
    """Print a row for each world and plan."""
    titles = ("better", "better, once", "equivalent", "equivalent, once", "saved")
    print(f"\n{backbones} backbones, the first better by the difference\n")
    print("| votes | difference | fold effect | shared | plan |", " | ".join(titles), "|")
    print("|---" * (5 + len(titles)) + "|", flush=True)
    for rows in dict.fromkeys(world.rows for world in worlds):
        batches = list(votes_of(rows, backbones))
        for world in worlds:
            for name, plan in PLANS.items() if world.rows == rows else ():
                facts = f"{rows:,} | {world.difference:g} | {world.effect:.4f} | {world.shared:g}"
                found = rates(world, plan, batches, backbones).values()
                shown = " | ".join(f"{100 * rate:.1f}" for rate in found)
                print(f"| {facts} | {name} | {shown} |", flush=True)


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m bench.sequential",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    start = time.monotonic()
    table(EQUAL, 2)
    table(DIFFERENT, 2)
    table([World(SAMPLE, 0, FOLD_EFFECT, SHARED), World(SAMPLE, 0.05, STEADY_EFFECT, SHARED)], 3)
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
