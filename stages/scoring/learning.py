"""Whether a backbone has learned, and whether it knows more than length and format."""

from collections.abc import Sequence

import numpy as np

from stages.counting.logistic import Parts
from stages.counting.regression import (
    Inputs,
    all_classes_seen,
    group_folds,
    halves,
    out_of_fold,
)
from stages.votes.labels import Votes, from_logits, mirrored

# The baseline that a backbone has to beat to have learned, as sentences call it.
REFERENCES = {"prior": "class prior", "counts": "offset alone (length and format)"}
C_ODDS = 1.0  # the prior on the weight of a log odds has a standard deviation of 1
POOLED_FOLDS = 10  # within each fold


def reference(offset: bool) -> str:
    """The baseline that learning is measured from; by an offset alone nothing has been learned."""
    return "counts" if offset else "prior"


def learned(low: float, high: float, equivalence: float) -> str:
    """Whether an interval of the gain over the reference shows learning.

    Returns:
        `yes` if all of it is above 0, `no` if all of it is below `equivalence`, else `undecided`.
    """
    if low > 0:
        return "yes"
    return "no" if high < equivalence else "undecided"


def mean_of_logs(
    predictions: Sequence[np.ndarray], weights: np.ndarray | None = None
) -> np.ndarray:
    """Probabilities (n, C) whose logs are the mean of several predictions' logs.

    Args:
        predictions: (n, C) probabilities each.
        weights: of the predictions in the mean, which sum to 1; equal ones if None.

    Source: Genest and Zidek 1986, Combining Probability Distributions (the logarithmic pool).
    """
    return from_logits(np.average(np.log(predictions), axis=0, weights=weights))


def pooled(
    predictions: Sequence[np.ndarray], votes: Votes, folds: np.ndarray, groups: np.ndarray
) -> np.ndarray | None:
    """Probabilities (n, C) of a regression on the log odds of one or more predictions.

    It is fitted and cross-validated within each fold. No label of a fold's rows has touched the
    predictions of these rows, but that of other folds' rows, by models trained on this fold, it
    has: a regression across folds finds it there, and gains 0.03 of log loss on shuffled votes
    where a hundred counts stand beside predictions made of them.

    Returns:
        None if a fold has too few votes of a class for that.

    Args:
        predictions: (n, C) probabilities each, out of fold.
        groups: (n,) prompt group of each row.
    """
    ab = np.column_stack([log_odds(each) for each in predictions])
    ba = np.column_stack([log_odds(mirrored(each)) for each in predictions])
    probabilities = np.empty_like(predictions[0])
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        inner = group_folds(groups[rows], POOLED_FOLDS)
        if not all_classes_seen(votes[rows], inner):
            return None
        probabilities[rows] = out_of_fold(
            _fixed(halves(ab[rows], ba[rows])), votes[rows], inner, C_ODDS
        )
    return probabilities


def _fixed(parts: Parts) -> Inputs:
    """Inputs that are the same for any training rows."""
    odd, even = parts
    return lambda train: ((odd[train], even[train]), (odd[~train], even[~train]))


def beyond_baseline(
    baseline: np.ndarray, pooled_alone: np.ndarray, with_backbone: np.ndarray, votes: Votes
) -> np.ndarray:
    """The gain that a backbone brings to a baseline, for each row: (n,).

    Over the baseline as it is or pooled alone, whichever has the lower log loss: that pooling
    calibrates it, or with few votes worsens it, is no knowledge of the backbone's.

    Args:
        baseline, pooled_alone, with_backbone: log losses of the rows.
    """
    return min(baseline, pooled_alone, key=votes.mean) - with_backbone


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Of A against B and, if there are ties, of a tie against both, in nats: (n, C - 1)."""
    a, b, *ties = np.log(probabilities).T
    return np.column_stack([a - b, *(tie - (a + b) / 2 for tie in ties)])
