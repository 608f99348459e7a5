"""Calibration of finished probabilities, and rules for answers that leave nothing to read.

Both are fitted on votes whose predictions are out-of-fold and applied to others. What is fitted is
plain data, so that predicting new battles applies the very same.
"""

from typing import Literal

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from stages.votes.labels import LABELS, floored

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


def fit(labels: np.ndarray, probabilities: np.ndarray, method: Method) -> dict:
    """The temperature and class biases under which the votes are most likely.

    Args:
        labels: (n,) 0 = A, 1 = B, 2 = tie.
        probabilities: (n, 3) out-of-fold.
        method: `temperature` fits that alone, `bias` both, `none` neither.

    Returns:
        temperature, and bias of A, B and tie, as `apply` takes them.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2 (temperature and
    vector scaling).
    """
    if method == "none":
        return {"temperature": 1.0, "bias": [0.0, 0.0, 0.0]}
    logits, free = np.log(probabilities), len(LABELS) if method == "bias" else 1

    def cost(x: np.ndarray) -> float:
        scale, bias = _unpack(x)
        losses = -log_softmax(scale * logits + bias, axis=1)[np.arange(len(labels)), labels]
        return losses.mean() + RIDGE * ((scale - 1) ** 2 + (bias**2).sum())

    scale, bias = _unpack(minimize(cost, np.eye(free)[0]).x)
    return {"temperature": 1 / max(scale, 1e-3), "bias": bias.tolist()}


def _unpack(x: np.ndarray) -> tuple[float, np.ndarray]:
    """1 / temperature, and the biases of A (0, since only differences count), B and tie."""
    return x[0], np.array([0.0, *x[1:]]) if len(x) > 1 else np.zeros(len(LABELS))


def fit_rules(labels: np.ndarray, found: np.ndarray) -> dict[str, list[int]]:
    """How often each class was chosen, by kind, in both orders: a_empty mirrors b_empty.

    Args:
        found: (n,) as `kinds` gives them.
    """
    count = {kind: np.bincount(labels[found == kind], minlength=len(LABELS)) for kind in KINDS}
    a, b, tie = count["a_empty"] + count["b_empty"][[1, 0, 2]]
    even = count["identical"] + count["identical"][[1, 0, 2]]
    return {
        "identical": (even / 2).tolist(),
        "a_empty": [int(a), int(b), int(tie)],
        "b_empty": [int(b), int(a), int(tie)],
    }


def apply(probabilities: np.ndarray, fitted: dict, found: np.ndarray) -> np.ndarray:
    """Calibrated probabilities (n, 3); by rule where one is fitted for the battle's kind.

    Args:
        probabilities: (n, 3), averaged over both orders.
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
    labels: np.ndarray, probabilities: np.ndarray, found: np.ndarray, method: Method, rules: bool
) -> dict:
    """Everything `apply` takes."""
    usual = found == "usual" if rules else slice(None)  # rules' rows do not bend the calibration
    fitted = fit(labels[usual], probabilities[usual], method)
    return fitted | ({"rules": fit_rules(labels, found)} if rules else {})


def out_of_fold(
    labels: np.ndarray,
    probabilities: np.ndarray,
    found: np.ndarray,
    folds: np.ndarray,
    method: Method,
    rules: bool,
) -> np.ndarray:
    """Each fold's probabilities (n, 3) calibrated by what the other folds' votes say."""
    calibrated = np.empty_like(probabilities)
    for fold in np.unique(folds):
        train, held = folds != fold, folds == fold
        fitted = fit_all(labels[train], probabilities[train], found[train], method, rules)
        calibrated[held] = apply(probabilities[held], fitted, found[held])
    return calibrated
