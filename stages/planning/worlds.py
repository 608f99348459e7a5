"""Worlds in which two backbones are compared: how their log losses differ by vote and by fold."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

SAMPLE, ARENA = 2_471, 57_477  # rows of the real votes below, and of the competition
FOLDS = 5

# Measured on docs/results, SmolLM2-135M-Instruct and Gemma-3-270M (classify, 5 folds) on 2,471 real
# votes, all nine pairs of three seeds each, by bench.study.spread: log loss of the first minus
# that of the second, less its mean. Quantiles of the votes' differences at these shares:
SHARES = [0, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1]
QUANTILES = [
    *(-1.46, -1.064, -0.838, -0.621, -0.46, -0.337, -0.206, -0.124, -0.058, 0.006),
    *(0.069, 0.138, 0.219, 0.332, 0.427, 0.535, 1.204),
]
MEAN = float(np.trapezoid(QUANTILES, SHARES))
VOTES_A_PROMPT = {1: 2375, 2: 24, 3: 5, 4: 4, 6: 1, 11: 1}  # prompts by number of their votes
WITHIN_PROMPT = 0.04  # correlation of two votes on one prompt
# The variance of the folds' means less what the sampling of votes explains, the root of its mean
# over the nine pairs (0 to 0.0397); and the same with sft (0 to 0.0102).
FOLD_EFFECT, STEADY_EFFECT = 0.0213, 0.004
SHARED = 1 / FOLDS  # correlation of the folds' effects that the corrected t interval allows for


@dataclass(frozen=True)
class World:
    """What is true in a simulation.

    Attributes:
        rows: votes.
        difference: log loss of one backbone minus that of the other, expected over trainings.
        effect: standard deviation, over folds, of what the training of a fold adds to it.
        shared: correlation of two folds' effects, since they share most of their training votes.
    """

    rows: int
    difference: float = 0.0
    effect: float = 0.0
    shared: float = 0.0


def at_rows(effect: float, rows: float) -> float:
    """A fold effect that was measured on SAMPLE votes, if it falls with the root of the votes.

    The error of what is estimated from training rows does so.
    """
    return effect * (SAMPLE / rows) ** 0.5


def prompts(rows: int, rng: np.random.Generator) -> np.ndarray:
    """The prompt of each vote, (rows,), with as many votes a prompt as the real ones have."""
    counts = np.array(list(VOTES_A_PROMPT.values()))
    sizes = rng.choice(list(VOTES_A_PROMPT), size=rows, p=counts / counts.sum())
    return np.repeat(np.arange(rows), sizes)[:rows]


def votes(prompt: np.ndarray, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Differences of mean 0, distributed as the real ones: (rows, columns).

    Each is the real quantile of a normal variable, part of which belongs to the prompt (a Gaussian
    copula).
    """
    own = rng.normal(size=(len(prompt), columns))
    common = rng.normal(size=(prompt.max() + 1, columns))[prompt]
    normal = np.sqrt(WITHIN_PROMPT) * common + np.sqrt(1 - WITHIN_PROMPT) * own
    return np.interp(ndtr(normal), SHARES, QUANTILES) - MEAN


def spread() -> float:
    """The standard deviation of the votes' differences."""
    at = np.linspace(0, 1, 10_001)
    return float(np.interp(at, SHARES, QUANTILES).std())


def effects(world: World, columns: int, rng: np.random.Generator, folds: int = FOLDS) -> np.ndarray:
    """The true difference of the two models of each fold: (folds, columns)."""
    own, common = rng.normal(size=(folds, columns)), rng.normal(size=columns)
    mixed = np.sqrt(world.shared) * common + np.sqrt(1 - world.shared) * own
    return world.difference + world.effect * mixed
