"""Logistic regressions on battles, each trained on every battle in both orders.

Predictions in both orders are averaged, so position gives nothing away.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from stages.counting.features import contrasts, exchanged
from stages.votes.labels import Votes, floored, mirrored

# Strength of the Gaussian prior on the weights of standardised inputs, the same at any number of
# rows: a hundred correlated counts need a tight one.
C_COUNTS = 0.002

Matrix: TypeAlias = np.ndarray | sp.csr_matrix
BothOrders = tuple[Matrix, Matrix]  # the inputs of battles as stored, and exchanged
Inputs = Callable[[np.ndarray], BothOrders]  # from the mask of training rows, all they may see


def numeric_inputs(table: pd.DataFrame, mirrored: pd.DataFrame) -> Inputs:
    """Columns standardised over the training rows in both orders."""

    def inputs(train: np.ndarray) -> BothOrders:
        scaler = StandardScaler().fit(pd.concat([table[train], mirrored[train]]).to_numpy())
        return scaler.transform(table.to_numpy()), scaler.transform(mirrored.to_numpy())

    return inputs


def count_inputs(features: pd.DataFrame) -> Inputs:
    """The inputs of the `counts` baseline, from stages.counting.features.count_features."""
    return numeric_inputs(contrasts(features), contrasts(exchanged(features)))


def out_of_fold(inputs: Inputs, votes: Votes, folds: np.ndarray, strength: float) -> np.ndarray:
    """Probabilities (n, C) of each fold's rows by a regression trained on the other folds.

    Args:
        folds: (n,) fold of each row.
        strength: scikit-learn's C.
    """
    probabilities = np.empty_like(votes.targets)
    for train in training_masks(folds):
        ab, ba = inputs(train)
        model = fit((ab[train], ba[train]), votes[train], strength)
        probabilities[~train] = predict(model, (ab[~train], ba[~train]), votes.classes)
    return probabilities


def group_folds(groups: np.ndarray, count: int) -> np.ndarray:
    """Deal rows into folds of whole groups; as many folds as groups if these are fewer.

    Returns:
        (n,) fold of each row.
    """
    folds, count = np.zeros(len(groups), dtype=int), min(count, len(np.unique(groups)))
    if count > 1:
        for fold, (_, rows) in enumerate(GroupKFold(count).split(groups, groups=groups)):
            folds[rows] = fold
    return folds


def all_classes_seen(votes: Votes, folds: np.ndarray) -> bool:
    """Whether outside of each fold there are votes for every class."""
    return all(votes.targets[train].any(axis=0).all() for train in training_masks(folds))


def training_masks(folds: np.ndarray) -> Iterator[np.ndarray]:
    """For each fold, which rows are not in it."""
    return (folds != fold for fold in np.unique(folds))


def fit(inputs: BothOrders, votes: Votes, strength: float) -> LogisticRegression:
    """Train on battles in both orders; the votes are those of the battles as stored.

    A vote that says probabilities is a row for each class, weighted by them.
    """
    ab, ba = inputs
    stack = sp.vstack if sp.issparse(ab) else np.vstack
    shares = np.concatenate([votes.targets, mirrored(votes.targets)])
    shares *= np.tile(votes.weights, 2)[:, None]
    rows, labels = np.nonzero(shares)
    both = stack([ab, ba])
    if len(rows) > len(shares):
        both = both[rows]
    with threadpool_limits(1):  # the products are small: threads would only wait on each other
        model = LogisticRegression(C=strength, max_iter=2000)
        return model.fit(both, labels, sample_weight=shares[rows, labels])


def predict(model: LogisticRegression, inputs: BothOrders, classes: int) -> np.ndarray:
    """Probabilities (n, classes) of battles as stored, the mean of both orders."""
    ab, ba = (_probabilities(model, each, classes) for each in inputs)
    return floored((ab + mirrored(ba)) / 2)


def _probabilities(model: LogisticRegression, inputs: Matrix, classes: int) -> np.ndarray:
    probabilities = np.zeros((inputs.shape[0], classes))
    probabilities[:, model.classes_] = model.predict_proba(inputs)
    return probabilities
