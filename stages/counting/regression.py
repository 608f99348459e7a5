"""Logistic regressions on battles, cross-validated; the order of the answers gives nothing away."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from stages.counting.features import contrasts, exchanged
from stages.counting.logistic import Parts, fit
from stages.votes.labels import Votes

# Strength of the Gaussian prior on the weights of standardised inputs, the same at any number of
# rows: a hundred correlated counts need a tight one.
C_COUNTS = 0.002
FOLDS_AT_ONCE = 2  # each holds its inputs in memory, and uses one thread

Inputs = Callable[[np.ndarray], Parts]  # from the mask of training rows, all they may see


def halves(ab: np.ndarray, ba: np.ndarray) -> Parts:
    """The odd and the even part of inputs, from those of the exchanged battles: (n, p) each."""
    return (ab - ba) / 2, (ab + ba) / 2


def numeric_inputs(table: pd.DataFrame, mirrored: pd.DataFrame) -> Inputs:
    """Columns standardised over the training rows in both orders."""

    def inputs(train: np.ndarray) -> Parts:
        scaler = StandardScaler().fit(pd.concat([table[train], mirrored[train]]).to_numpy())
        return halves(scaler.transform(table.to_numpy()), scaler.transform(mirrored.to_numpy()))

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

    def predict(train: np.ndarray) -> np.ndarray:
        odd, even = inputs(train)
        model = fit((odd[train], even[train]), votes[train], strength)
        return model.predict((odd[~train], even[~train]))

    probabilities = np.empty_like(votes.targets)
    masks = list(training_masks(folds))
    with threadpool_limits(1), ThreadPoolExecutor(FOLDS_AT_ONCE) as pool:
        for train, predicted in zip(masks, pool.map(predict, masks), strict=True):
            probabilities[~train] = predicted
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
