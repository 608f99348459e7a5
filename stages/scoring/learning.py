"""Whether a backbone has learned, and whether it knows more than length and format."""

from collections.abc import Sequence

import numpy as np

from stages.counting.regression import all_classes_seen, group_folds, out_of_fold

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


def pooled(
    predictions: Sequence[np.ndarray], labels: np.ndarray, folds: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Probabilities (n, 3) of a regression on the log odds of one or more predictions.

    It is fitted and cross-validated within each fold. No label of a fold's rows has touched the
    predictions of these rows, but that of other folds' rows, by models trained on this fold, it
    has: a regression across folds finds it there, and gains 0.03 of log loss on shuffled votes
    where a hundred counts stand beside predictions made of them.

    Rows of a fold with too few votes for that keep the first prediction.

    Args:
        predictions: (n, 3) probabilities each, out of fold.
        groups: (n,) prompt group of each row.
    """
    odds = [log_odds(each) for each in predictions]
    ab = np.column_stack([column for winner, tie in odds for column in (winner, tie)])
    ba = np.column_stack([column for winner, tie in odds for column in (-winner, tie)])
    probabilities = np.empty_like(predictions[0])
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        both, inner = (ab[rows], ba[rows]), group_folds(groups[rows], POOLED_FOLDS)
        probabilities[rows] = (
            out_of_fold(lambda train, b=both: b, labels[rows], inner, C_ODDS)
            if all_classes_seen(labels[rows], inner)
            else predictions[0][rows]
        )
    return probabilities


def beyond_baseline(
    baseline: np.ndarray, pooled_alone: np.ndarray, with_backbone: np.ndarray
) -> np.ndarray:
    """The gain that a backbone brings to a baseline, for each row: (n,).

    Over the baseline as it is or pooled alone, whichever has the lower log loss: that pooling
    calibrates it, or with few votes worsens it, is no knowledge of the backbone's.

    Args:
        baseline, pooled_alone, with_backbone: log losses of the rows.
    """
    return min(baseline, pooled_alone, key=np.mean) - with_backbone


def log_odds(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of A against B, and of a tie against both, in nats: (n,) each."""
    a, b, tie = np.log(probabilities).T
    return a - b, tie - (a + b) / 2
