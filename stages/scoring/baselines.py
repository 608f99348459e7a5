"""What predicts votes without a language model: the ladder every backbone has to climb.

A new baseline is an entry in BASELINES; metrics, reports and comparisons follow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from stages.counting.features import contrasts, exchanged
from stages.counting.regression import (
    C_COUNTS,
    Inputs,
    count_inputs,
    numeric_inputs,
    out_of_fold,
    training_masks,
)
from stages.scoring.text_features import joined_inputs, text_inputs
from stages.votes.labels import Votes, floored, votes_of

C_LENGTH = 1.0  # of the prior on the weights of five lengths, which need no tight one


@dataclass(frozen=True)
class Folded:
    """Battles in folds, and what regressions take in of them, each made once.

    Attributes:
        battles: prompt, response_a, response_b (lists of turns), targets and weight.
        features: the battles' stages.counting.features.count_features.
        folds: (n,) fold of each row.
    """

    battles: pd.DataFrame
    features: pd.DataFrame
    folds: np.ndarray

    @cached_property
    def votes(self) -> Votes:
        return votes_of(self.battles)

    @cached_property
    def lengths(self) -> Inputs:
        ab, ba = length_design(self.features), length_design(exchanged(self.features))
        return numeric_inputs(ab, ba)

    @cached_property
    def counts(self) -> Inputs:
        return count_inputs(self.features)

    @cached_property
    def text(self) -> Inputs:
        return text_inputs(self.battles)

    def regression(self, inputs: Inputs, strength: float) -> np.ndarray:
        """Out-of-fold probabilities (n, C) by stages.counting.regression."""
        return out_of_fold(inputs, self.votes, self.folds, strength)


@dataclass(frozen=True)
class Baseline:
    """A way to predict votes without a language model.

    Attributes:
        title: what reports call it.
        predict: gives out-of-fold probabilities (n, C).
    """

    title: str
    predict: Callable[[Folded], np.ndarray]


# By their names in metrics and tables, from the weakest to the strongest.
BASELINES = {
    "prior": Baseline("class prior", lambda v: class_prior(v.votes, v.folds)),
    "length": Baseline("length", lambda v: v.regression(v.lengths, C_LENGTH)),
    "counts": Baseline("length and format", lambda v: v.regression(v.counts, C_COUNTS)),
    "tfidf": Baseline("TF-IDF", lambda v: v.regression(v.text, C_COUNTS)),
    "tfidf_counts": Baseline(
        "TF-IDF, length, format",
        lambda v: v.regression(joined_inputs(v.text, v.counts), C_COUNTS),
    ),
}
TITLES = {name: baseline.title for name, baseline in BASELINES.items()}


def predict_baselines(
    battles: pd.DataFrame, features: pd.DataFrame, folds: np.ndarray
) -> dict[str, np.ndarray]:
    """Out-of-fold probabilities (n, C) of every baseline; the arguments are those of Folded."""
    folded = Folded(battles, features, folds)
    return {name: baseline.predict(folded) for name, baseline in BASELINES.items()}


def class_prior(votes: Votes, folds: np.ndarray) -> np.ndarray:
    """The class shares of the other folds, for each row: (n, C)."""
    probabilities = np.empty_like(votes.targets)
    for train in training_masks(folds):
        probabilities[~train] = votes[train].shares
    return floored(probabilities)


def length_design(features: pd.DataFrame) -> pd.DataFrame:
    """Five length features: logs of the characters of prompt, A and B, and how A and B differ."""
    return contrasts(features[["prompt_chars", "chars_a", "chars_b"]])
