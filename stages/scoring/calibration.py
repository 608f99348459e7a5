"""Calibration of finished probabilities, and rules for answers that leave nothing to read.

Both are fitted on votes whose predictions are out-of-fold and applied to others. What is fitted is
plain data, so that predicting new battles applies the very same.
"""

from typing import Literal

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from stages.votes.labels import Votes, floored, mirrored

Method = Literal["none", "temperature", "bias"]
KINDS = ("usual", "identical", "a_empty", "b_empty")
STRENGTH = 10.0  # a rule's prediction weighs the backbone's own as this many votes
RIDGE = 1e-3  # holds the fit where all predictions are alike


def kinds(battles: pd.DataFrame) -> np.ndarray:
    """Which of KINDS each battle is, by its answers alone: (n,) of strings.

    Args:
        battles: response_a and response_b, each row a list of turns.
    """
    a, b = ([[turn.strip() for turn in turns] for turns in battles[f"response_{s}"]] for s in "ab")
    return np.array([_kind(*answers) for answers in zip(a, b, strict=True)])


def _kind(a: list[str], b: list[str]) -> str:
    if a == b:
        return "identical"
    if not any(a):
        return "a_empty"
    return "usual" if any(b) else "b_empty"


def fit(votes: Votes, probabilities: np.ndarray, method: Method) -> dict:
    """The temperature and class biases under which the votes are most likely.

    Args:
        probabilities: (n, C) out-of-fold.
        method: `temperature` fits that alone, `bias` both, `none` neither.

    Returns:
        temperature, and bias of each class, as `apply` takes them.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2 (temperature and
    vector scaling).
    """
    if method == "none":
        return {"temperature": 1.0, "bias": [0.0] * votes.classes}
    logits, free = np.log(probabilities), votes.classes if method == "bias" else 1

    def unpacked(x: np.ndarray) -> tuple[float, np.ndarray]:
        """1 / temperature, and the biases: A's is 0, since only differences count."""
        return x[0], np.array([0.0, *x[1:]]) if len(x) > 1 else np.zeros(votes.classes)

    def cost(x: np.ndarray) -> float:
        scale, bias = unpacked(x)
        losses = -(votes.targets * log_softmax(scale * logits + bias, axis=1)).sum(axis=1)
        return votes.mean(losses) + RIDGE * ((scale - 1) ** 2 + (bias**2).sum())

    scale, bias = unpacked(minimize(cost, np.eye(free)[0]).x)
    return {"temperature": 1 / max(scale, 1e-3), "bias": bias.tolist()}


def fit_rules(votes: Votes, found: np.ndarray) -> dict[str, list[float]]:
    """How often each class was chosen, by kind, in both orders: a_empty mirrors b_empty.

    Args:
        found: (n,) as `kinds` gives them.
    """
    given = votes.targets * votes.weights[:, None]
    count = {kind: given[found == kind].sum(axis=0, keepdims=True) for kind in KINDS}
    a_empty = count["a_empty"] + mirrored(count["b_empty"])
    even = (count["identical"] + mirrored(count["identical"])) / 2
    rules = {"identical": even, "a_empty": a_empty, "b_empty": mirrored(a_empty)}
    return {kind: counts[0].tolist() for kind, counts in rules.items()}


def apply(probabilities: np.ndarray, fitted: dict, found: np.ndarray) -> np.ndarray:
    """Calibrated probabilities (n, C); by rule where one is fitted for the battle's kind.

    Args:
        probabilities: (n, C), averaged over both orders.
        fitted: temperature and bias; rules, if any, by kind.
        found: (n,) as `kinds` gives them.
    """
    logits = np.log(probabilities) / fitted["temperature"] + np.array(fitted["bias"])
    calibrated = softmax(logits, axis=1)
    for kind, counts in fitted.get("rules", {}).items():
        rows = found == kind
        votes = np.array(counts) + STRENGTH * calibrated[rows]
        calibrated[rows] = votes / votes.sum(axis=1, keepdims=True)
    return floored(calibrated)


def fit_all(
    votes: Votes, probabilities: np.ndarray, found: np.ndarray, method: Method, rules: bool
) -> dict:
    """Everything `apply` takes."""
    usual = found == "usual" if rules else slice(None)  # rules' rows do not bend the calibration
    fitted = fit(votes[usual], probabilities[usual], method)
    return fitted | ({"rules": fit_rules(votes, found)} if rules else {})


def out_of_fold(
    votes: Votes,
    probabilities: np.ndarray,
    found: np.ndarray,
    folds: np.ndarray,
    method: Method,
    rules: bool,
) -> np.ndarray:
    """Each fold's probabilities (n, C) calibrated by what the other folds' votes say."""
    calibrated = np.empty_like(probabilities)
    for fold in np.unique(folds):
        train, held = folds != fold, folds == fold
        fitted = fit_all(votes[train], probabilities[train], found[train], method, rules)
        calibrated[held] = apply(probabilities[held], fitted, found[held])
    return calibrated
