"""Statistics of a paired difference between two runs on the same out-of-fold rows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from stages.scoring.bootstrap import cluster_bootstrap
from stages.votes.labels import LABELS

LEAST = 30  # votes in as many prompt groups: a slice with fewer has no interval worth reading


def bootstrap(
    differences: np.ndarray,
    rows: pd.DataFrame,
    draws: int,
    confidence: float,
    seed: int,
    weights: np.ndarray | None = None,
) -> dict:
    """The mean difference with the percentile interval of a bootstrap over prompt groups.

    Args:
        differences: (n,) log loss of one run minus that of the other.
        rows: as `describe` gives them.
        weights: (n,) of the votes; equal ones if None.

    Returns:
        difference, low and high of all votes, with their two-sided p_value; the same under
        `classes` by name and under `slices` as a list. All rest on the same draws.
    """
    weights = np.ones(len(rows)) if weights is None else weights
    parts = {("all", "all"): np.full(len(rows), True)} | slices(rows)
    members = np.column_stack(list(parts.values()))
    parted = members * weights[:, None]
    drawn = cluster_bootstrap(differences[:, None], rows.group.to_numpy(), draws, seed, parted)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    found = [
        {
            "slice": name,
            "value": value,
            "rows": int(member.sum()),
            "difference": float(np.average(differences[member], weights=weights[member])),
            "low": float(low[i]),
            "high": float(high[i]),
        }
        for i, ((name, value), member) in enumerate(parts.items())
    ]
    return {
        **{end: found[0][end] for end in ("difference", "low", "high")},
        "p_value": p_value(drawn[:, 0]),
        "classes": {
            part["value"]: {k: part[k] for k in ("rows", "difference", "low", "high")}
            for part in found
            if part["slice"] == "label"
        },
        "slices": [part for part in found if part["slice"] not in ("all", "label")],
    }


def p_value(drawn: np.ndarray) -> float:
    """Two-sided, that the mean is 0: twice the smaller share of the draws beyond it.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 15.4.
    """
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (beyond + 1) / (len(drawn) + 1)))


SLICES = {  # the values in their order
    "label": LABELS,
    "turns": ("one", "several"),
    "length": ("short", "medium", "long"),
    "truncated": ("no", "yes"),
}
FREE = ("script", "language", "source")  # with whatever values, the commonest first


def slices(rows: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """Masks (n,) of the votes with each value of each slice, those with few votes left out."""
    values = SLICES | {name: rows[name].value_counts().index for name in FREE if name in rows}
    masks = {
        (name, value): (rows[name] == value).to_numpy()
        for name, names in values.items()
        for value in names
    }
    groups = rows.group.to_numpy()
    return {
        key: mask
        for key, mask in masks.items()
        if not mask.all() and len(np.unique(groups[mask])) >= LEAST
    }


def describe(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """What the votes are sliced by, named in words.

    Args:
        tables: the out-of-fold table of each run, with the same rows in the same order. Tokens
            differ between tokenizers: a vote's length is the mean over runs, and it is truncated
            if any run has cut it.

    Returns:
        id, group, fold, and a column for each slice.
    """
    first = tables[0]
    length = np.mean([t.tokens + t.tokens_dropped for t in tables], axis=0)
    third = pd.qcut(pd.Series(length).rank(method="first"), 3, labels=["short", "medium", "long"])
    truncated = np.any([t.tokens_dropped > 0 for t in tables], axis=0)
    return first[["id", "group", "fold"]].assign(
        label=np.array(LABELS)[first.label],
        turns=np.where(first.turns > 1, "several", "one"),
        length=third.astype(str).to_numpy(),
        **{name: first[name] for name in FREE if name in first},
        truncated=np.where(truncated, "yes", "no"),
    )


def corrected_t(
    differences: np.ndarray,
    folds: np.ndarray,
    confidence: float,
    weights: np.ndarray | None = None,
    of: int | None = None,
) -> dict[str, float]:
    """The mean over folds with a t interval that allows for folds sharing their training rows.

    The variance of the fold means is taken times 1/k + n_test/n_train, since no unbiased estimator
    of it exists (Bengio and Grandvalet 2004).

    Args:
        differences: (n,) log loss of one run minus that of the other.
        folds: (n,) fold of each row, one of k.
        weights: (n,) of the votes; equal ones if None.
        of: how many folds the votes were dealt into; k if None. It gives n_test/n_train.

    Source: Nadeau and Bengio 2003, Inference for the Generalization Error, section 3.

    Returns:
        difference, low, high and p_value.
    """
    weights = np.ones(len(folds)) if weights is None else weights
    codes = np.unique(folds, return_inverse=True)[1]
    means = np.bincount(codes, differences * weights) / np.bincount(codes, weights)
    found = over_folds(means, confidence, of)
    return {name: float(value) for name, value in found.items()}


def over_folds(
    means: np.ndarray, confidence: float, of: int | None = None
) -> dict[str, np.ndarray]:
    """The corrected t interval of the means of folds, (folds, …), for each column.

    Args:
        of: folds that the votes are dealt into; as many as there are means if None.
    """
    k, mean = len(means), means.mean(axis=0)
    error = means.std(axis=0, ddof=1) * np.sqrt(1 / k + 1 / ((of or k) - 1))
    half = stats.t.ppf((1 + confidence) / 2, k - 1) * error
    far = np.divide(abs(mean), error, out=np.where(mean == 0, 0.0, np.inf), where=error > 0)
    p = 2 * stats.t.sf(far, k - 1)
    return {"difference": mean, "low": mean - half, "high": mean + half, "p_value": p}


def holm(p_values: list[float]) -> list[float]:
    """P values adjusted for being several (Holm 1979)."""
    order = np.argsort(p_values)
    left = len(p_values) - np.arange(len(p_values))
    steps = np.maximum.accumulate(np.sort(p_values) * left)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(steps, 1)
    return adjusted.tolist()


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """The exact two-sided p value that both are right equally often (McNemar 1947)."""
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b).pvalue)
