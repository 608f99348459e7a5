"""Bradley-Terry ratings: a logistic regression on which two models met.

The logit of a win of A is the difference of both models' ratings, and of style if it is held
constant. A tie is half a win for each, and a probability of a win is a part of one.

Sources: Bradley and Terry 1952; Chiang et al. 2024, Chatbot Arena (arXiv 2403.04132); style as
LMArena holds it constant, https://lmsys.org/blog/2024-08-28-style-control.
"""

import numpy as np
import pandas as pd
from scipy.special import expit
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from stages.votes.rows import MODELS

ANCHOR = 1000.0  # the mean of the rated models
POINTS = 400.0  # which make the odds of a win ten to one
PER_LOGIT = POINTS / np.log(10)
# Of a weak Gaussian prior, for models that win or lose all in some draw: 550 points, in logits.
DEVIATION = 550 / PER_LOGIT
SMALL = 1e-3 / PER_LOGIT  # Newton's method ends when no rating moves by a thousandth of a point


def win_shares(probabilities: np.ndarray) -> np.ndarray:
    """A's part of a win, from (n, C) probabilities of A, B and tie: (n,)."""
    return probabilities[:, 0] + probabilities[:, 2:].sum(axis=1) / 2


def design(battles: pd.DataFrame, models: list[str], style: pd.DataFrame) -> np.ndarray:
    """A row a battle: 1 for model A, -1 for model B, and the differences of style.

    Args:
        battles: model_a and model_b.
        style: (n, p) differences; p is 0 if style is not held constant.

    Returns:
        (n, models and p).
    """
    a, b = (pd.Index(models).get_indexer(battles[name]) for name in MODELS)
    one = np.eye(len(models))
    return np.hstack([one[a] - one[b], style.to_numpy()])


def points(
    inputs: np.ndarray, wins: np.ndarray, weights: np.ndarray, start: np.ndarray | None = None
) -> np.ndarray:
    """Points of each model above the mean, and of each standard deviation of style: (k,).

    Args:
        inputs: (n, k), as `design` makes them.
        wins: (n,) A's part of each win.
        weights: (n,) of the battles.
        start: (k,) points that may be near.
    """
    prior = np.eye(inputs.shape[1]) / DEVIATION**2
    found = np.zeros(len(prior)) if start is None else start / PER_LOGIT
    step = np.full(len(prior), np.inf)
    while np.abs(step).max() > SMALL:
        expected = expit(inputs @ found)
        slope = inputs.T @ (weights * (expected - wins)) + prior @ found
        certainty = weights * expected * (1 - expected)
        step = np.linalg.solve((inputs.T * certainty) @ inputs + prior, slope)
        # While no logit moves by more than ln 2, a step cannot raise the convex loss.
        step /= max(1.0, np.abs(inputs @ step).max() / np.log(2))
        found = found - step
    return found * PER_LOGIT


def bootstrap(
    inputs: np.ndarray,
    wins: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray,
    draws: int,
    seed: int,
    name: str,
) -> np.ndarray:
    """The points in each draw of whole prompt groups, with replacement: (draws, k).

    Args:
        groups: (n,) prompt group of each battle.
        seed: the same seed draws the same groups.
        name: of the progress.
    """
    names, group = np.unique(groups, return_inverse=True)
    count, rng = len(names), np.random.default_rng(seed)
    found = np.empty((draws, inputs.shape[1]))
    with threadpool_limits(1):
        start = points(inputs, wins, weights)
        for draw in tqdm(range(draws), desc=name, unit="draw", disable=None):
            times = np.bincount(rng.integers(count, size=count), minlength=count)[group]
            there = times > 0
            drawn = inputs[there], wins[there], (weights * times)[there]
            found[draw] = points(*drawn, start)
    return found
