"""How good probabilities over (a, b, tie) are: pure functions of votes and probabilities.

Probabilities are (n, C) in the order of the votes' classes. Means are weighted by vote. The
predicted class is the most probable one; of exactly equal ones the first of a, b, tie; and so is
the label of a vote that says probabilities.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from stages.votes.labels import LABELS, Votes

BINS = 15


def example_losses(votes: Votes, probabilities: np.ndarray) -> np.ndarray:
    """Log loss of each row in nats, its cross-entropy against the vote: (n,)."""
    return -(votes.targets * np.log(probabilities)).sum(axis=1)


def log_loss(votes: Votes, probabilities: np.ndarray) -> float:
    """Mean log loss in nats."""
    return votes.mean(example_losses(votes, probabilities))


def log_loss_by_class(votes: Votes, probabilities: np.ndarray) -> dict[str, float | None]:
    """Mean log loss of the votes for each class, by its name; None for a class without votes."""
    losses, given = -np.log(probabilities), votes.targets * votes.weights[:, None]
    return {
        name: float(np.average(loss, weights=weight)) if weight.any() else None
        for name, loss, weight in zip(LABELS, losses.T, given.T, strict=False)
    }


def right(votes: Votes, probabilities: np.ndarray) -> np.ndarray:
    """Whether each row's most probable class is the label: (n,)."""
    return probabilities.argmax(axis=1) == votes.labels


def accuracy(votes: Votes, probabilities: np.ndarray) -> float:
    """Share of rows whose most probable class is the label."""
    return votes.mean(right(votes, probabilities))


def macro_f1(votes: Votes, probabilities: np.ndarray) -> float:
    """Mean of the classes' F1; a class neither there nor predicted counts as 0."""
    return float(
        f1_score(
            votes.labels,
            probabilities.argmax(axis=1),
            labels=range(votes.classes),
            average="macro",
            sample_weight=votes.weights,
            zero_division=0,
        )
    )


def brier(votes: Votes, probabilities: np.ndarray) -> float:
    """Squared distance to the vote, summed over classes: 0 to 2 (Brier 1950)."""
    return votes.mean(((probabilities - votes.targets) ** 2).sum(axis=1))


def calibration(votes: Votes, probabilities: np.ndarray) -> pd.DataFrame:
    """Confidence and accuracy in equal-width bins of the most probable class's probability.

    Returns:
        One row a bin that holds any rows: confidence and accuracy (their means), count (the sum of
        their weights).
    """
    confidence = probabilities.max(axis=1)
    values = np.column_stack([confidence, right(votes, probabilities), np.ones(len(votes))])
    rows = pd.DataFrame(values * votes.weights[:, None])
    bins = np.ceil(confidence * BINS)  # bin i holds (i - 1, i] / BINS
    sums = rows.groupby(bins).sum().to_numpy()
    return pd.DataFrame(
        {"confidence": sums[:, 0] / sums[:, 2], "accuracy": sums[:, 1] / sums[:, 2]}
    ).assign(count=sums[:, 2])


def ece(votes: Votes, probabilities: np.ndarray) -> float:
    """Expected calibration error of the most probable class, over 15 equal-width bins.

    The mean over rows of the gap between their bin's accuracy and mean confidence (Guo et al.
    2017, On Calibration of Modern Neural Networks, equation 5).
    """
    table = calibration(votes, probabilities)
    gaps = (table.accuracy - table.confidence).abs()
    return float((gaps * table["count"]).sum() / votes.weights.sum())


def order_consistency(votes: Votes, ab: np.ndarray, ba: np.ndarray) -> float:
    """Share of rows predicted alike in both orders.

    Args:
        ab: (n, C) probabilities with the answers as stored.
        ba: (n, C) with the answers shown exchanged, mapped back to the row's own A and B, so that
            a prediction that mirrors the exchange has the same class in both. A row of equal
            probabilities in both orders counts as consistent.
    """
    return votes.mean(ab.argmax(axis=1) == ba.argmax(axis=1))


def confusion(votes: Votes, probabilities: np.ndarray) -> pd.DataFrame:
    """Each row's actual and predicted class, named A, B and tie: what DVC's template counts."""
    names, predicted = np.array(["A", "B", "tie"]), probabilities.argmax(axis=1)
    return pd.DataFrame({"actual": names[votes.labels], "predicted": names[predicted]})
