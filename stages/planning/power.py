"""What a comparison could find: how often `compare` would call a true difference better.

Pairs of runs are simulated and judged by the rule's own code. What is simulated are the means of
the folds, not the votes: the mean of thousands of votes is normal, and its interval is known.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

from stages.comparison.paired import over_folds
from stages.comparison.verdict import CONFIDENCE, by_intervals, too_few_seeds
from stages.planning.worlds import (
    FOLD_EFFECT,
    SHARED,
    STEADY_EFFECT,
    World,
    at_rows,
    effects,
    spread,
)

SIMULATIONS = 1_000  # which tell a chance to ±3 %
DIFFERENCES = (0.005, 0.01, 0.02, 0.05)
WANTED = 0.8
FOLDS, SEEDS, SHARES = (3, 5, 10), (1, 2, 3, 5), (0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
# Of classify also for reward, which nobody has measured: both train a head from zero.
EFFECTS = {"sft": STEADY_EFFECT, "classify": FOLD_EFFECT, "reward": FOLD_EFFECT}


@dataclass(frozen=True)
class Design:
    """What is run of each backbone: all folds, with each seed."""

    votes: int
    folds: int
    seeds: int


def fold_effects(objective: str, votes: int) -> dict[str, float]:
    """The fold effect at a number of votes, as far as it is known: at best, and at worst.

    At best it falls with the root of the votes, at worst it stays what it was at 2,471.
    """
    measured = EFFECTS[objective]
    return {"best": min(measured, at_rows(measured, votes)), "worst": measured}


def chance(design: Design, difference: float, effect: float, delta: float) -> float:
    """How often the rule finds the better backbone where the true difference is this one.

    Args:
        difference: of the log losses.
        effect: of one seed, over folds; seeds are taken to share nothing of it.
        delta: below which two backbones are equivalent.
    """
    rng = np.random.default_rng(0)
    world = World(design.votes, difference, effect / design.seeds**0.5, SHARED)
    trained = effects(world, SIMULATIONS, rng, design.folds)
    error = spread() / design.votes**0.5
    sampled = rng.normal(scale=error * design.folds**0.5, size=trained.shape)
    folds = over_folds(trained + sampled, CONFIDENCE)
    mean = folds["difference"]
    half = stats.norm.ppf((1 + CONFIDENCE) / 2) * error
    p = np.maximum(2 * stats.norm.sf(abs(mean) / error), folds["p_value"])
    found = (
        by_intervals({"low": m - half, "high": m + half}, {"low": low, "high": high}, p_, delta)
        == "better"
        and m > 0
        and not too_few_seeds(m, design.seeds)
        for m, low, high, p_ in zip(mean, folds["low"], folds["high"], p, strict=True)
    )
    return sum(found) / SIMULATIONS


def designs(most: int) -> Iterable[Design]:
    """Those that are tried, with so many votes at most."""
    for share, folds, seeds in product(SHARES, FOLDS, SEEDS):
        yield Design(round(share * most), folds, seeds)


def cheapest(
    difference: float,
    most: int,
    objective: str,
    case: str,
    delta: float,
    hours: Callable[[Design], float],
) -> tuple[Design, float] | None:
    """The design of least cost that finds a difference with a chance of WANTED, and its chance.

    Args:
        most: votes that there are.
        case: best or worst, of `fold_effects`.
        hours: what a design costs.

    Returns:
        None if no design finds it.
    """
    for design in sorted(designs(most), key=hours):
        effect = fold_effects(objective, design.votes)[case]
        found = chance(design, difference, effect, delta)
        if found >= WANTED:
            return design, found
    return None
