"""How good probabilities over (a, b, tie) are: pure functions of labels and probabilities.

Labels are (n,) integers 0 = A, 1 = B, 2 = tie; probabilities are (n, 3) in the same order. The
predicted class is the most probable one; of exactly equal ones the first of a, b, tie.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from stages.votes.labels import LABELS

BINS = 15


def example_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Log loss of each row in nats: (n,)."""
    return -np.log(probabilities[np.arange(len(labels)), labels])


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean log loss in nats."""
    return float(example_losses(labels, probabilities).mean())


def log_loss_by_class(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Mean log loss of the rows of each class, by its name; 0 for a class without rows."""
    losses = example_losses(labels, probabilities)
    return {
        name: float(losses[labels == label].mean()) if (labels == label).any() else 0.0
        for label, name in enumerate(LABELS)
    }


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of rows whose most probable class is the label."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of the three classes' F1; a class neither there nor predicted counts as 0."""
    predicted = probabilities.argmax(axis=1)
    classes = range(len(LABELS))
    return float(f1_score(labels, predicted, labels=classes, average="macro", zero_division=0))


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Squared distance to the one-hot label, summed over classes: 0 to 2 (Brier 1950)."""
    return float(((probabilities - np.eye(len(LABELS))[labels]) ** 2).sum(axis=1).mean())


def calibration(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Confidence and accuracy in equal-width bins of the most probable class's probability.

    Returns:
        One row a bin that holds any rows: confidence (their mean), accuracy, count.
    """
    confidence = probabilities.max(axis=1)
    rows = pd.DataFrame(
        {"confidence": confidence, "accuracy": probabilities.argmax(axis=1) == labels, "count": 1}
    )
    bins = np.ceil(confidence * BINS)  # bin i holds (i - 1, i] / BINS
    table = rows.groupby(bins).agg({"confidence": "mean", "accuracy": "mean", "count": "sum"})
    return table.reset_index(drop=True)


def ece(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error of the most probable class, over 15 equal-width bins.

    The mean over rows of the gap between their bin's accuracy and mean confidence (Guo et al.
    2017, On Calibration of Modern Neural Networks, equation 5).
    """
    table = calibration(labels, probabilities)
    gaps = (table.accuracy - table.confidence).abs()
    return float((gaps * table["count"]).sum() / len(labels))


def order_consistency(ab: np.ndarray, ba: np.ndarray) -> float:
    """Share of rows predicted alike in both orders.

    Args:
        ab: (n, 3) probabilities with the answers as stored.
        ba: (n, 3) with the answers shown exchanged, mapped back to the row's own A and B, so that
            a prediction that mirrors the exchange has the same class in both. A row of equal
            probabilities in both orders counts as consistent.
    """
    return float((ab.argmax(axis=1) == ba.argmax(axis=1)).mean())


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Each row's actual and predicted class, named A, B and tie: what DVC's template counts."""
    names = np.array(["A", "B", "tie"])
    return pd.DataFrame({"actual": names[labels], "predicted": names[probabilities.argmax(axis=1)]})
