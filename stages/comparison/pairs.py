"""Each two entries: their statistics, the verdict on them and its sentence."""

from itertools import combinations

import numpy as np
import pandas as pd

from stages.comparison import paired
from stages.comparison.entries import Entry
from stages.comparison.looks import Look
from stages.comparison.verdict import decide
from stages.comparison.words import pair_sentence

DRAWS = 10_000
SEED = 0  # of the draws


def compare_pairs(entries: list[Entry], invalid: bool, delta: float, look: Look) -> list[dict]:
    """Compare each two of several entries, as metrics/comparison.json holds it.

    Args:
        invalid: whether the comparison is, whatever the numbers.
        delta: log loss; two nearer than this are equivalent.
        look: which gives the level of the verdicts, and the confidence of the intervals.
    """
    rows = paired.describe([run.rows for entry in entries for run in entry.runs])
    both = list(combinations(entries, 2))
    measured = [_measure(a, b, rows, look.confidence) for a, b in both]
    adjusted = paired.holm([pair["p_value"] for pair in measured])
    pairs = []
    for (a, b), pair, p in zip(both, measured, adjusted, strict=True):
        pair |= {"p_value_holm": p}
        verdict, warnings = decide(pair, a, b, invalid, delta, look.level)
        sentence = pair_sentence(verdict, pair, a, b, look.confidence)
        pairs.append(pair | {"verdict": verdict, "warnings": warnings, "sentence": sentence})
    return pairs


def _measure(a: Entry, b: Entry, rows: pd.DataFrame, confidence: float) -> dict:
    difference, dealt = a.losses - b.losses, a.runs[0].dealt
    primary = paired.bootstrap(difference, rows, DRAWS, confidence, SEED, a.weights)
    folds = paired.corrected_t(difference, rows.fold.to_numpy(), confidence, a.weights, dealt)
    return {
        "a": a.name,
        "b": b.name,
        **primary,
        "folds": {key: folds[key] for key in ("difference", "low", "high")},
        # A claim needs both intervals, so the larger p value is the claim's.
        "p_value": max(primary["p_value"], folds["p_value"]),
        "mcnemar_p": paired.mcnemar(a.right, b.right),
        "accuracy_difference": _mean(a.right, a) - _mean(b.right, b),
    }


def _mean(values: np.ndarray, entry: Entry) -> float:
    return float(np.average(values, weights=entry.weights))
