"""What predicts votes without a language model: the ladder every backbone has to climb.

All are logistic regressions (stages.counting.regression) over the same folds as the backbones.
"""

import json
from functools import partial

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from stages.config.errors import stage
from stages.config.params import Evaluate, load
from stages.config.paths import BASELINES, BASELINES_METRICS, FOLDS
from stages.counting.features import count_features, exchanged, length_design
from stages.counting.regression import (
    C_COUNTS,
    BothOrders,
    Inputs,
    count_inputs,
    numeric_inputs,
    out_of_fold,
    training_masks,
)
from stages.scoring import scores
from stages.scoring.bootstrap import paired_cluster_bootstrap
from stages.votes.battles import read_battles
from stages.votes.labels import LABELS, floored

C_LENGTH = 1.0  # of the prior on the weights of five lengths, which need no tight one
# TF-IDF rows have length 1 over thousands of words: the same prior holds them at this scale.
TFIDF_SCALE = 10.0
MIN_DOCUMENTS, MAX_WORDS = 3, 20_000  # of the training answers


def text_inputs(battles: pd.DataFrame) -> Inputs:
    """TF-IDF of answer A minus that of B, signed (which is better) and absolute (tie or not).

    The words and their weights are those of the training rows' answers; texts are split once.
    """
    texts = [["\n\n".join(turns) for turns in battles[f"response_{side}"]] for side in "ab"]
    counts = CountVectorizer(dtype=np.float32).fit_transform(texts[0] + texts[1])
    counts_a, counts_b = counts[: len(battles)], counts[len(battles) :]

    def inputs(train: np.ndarray) -> BothOrders:
        training = sp.vstack([counts_a[train], counts_b[train]])
        words = _frequent_words(training)
        tfidf = TfidfTransformer(sublinear_tf=True).fit(training[:, words])
        a, b = (tfidf.transform(counts[:, words]) * TFIDF_SCALE for counts in (counts_a, counts_b))
        difference = a - b
        absolute = abs(difference)
        return sp.hstack([difference, absolute], "csr"), sp.hstack([-difference, absolute], "csr")

    return inputs


def _frequent_words(counts: sp.csr_matrix) -> np.ndarray:
    """Columns found in at least MIN_DOCUMENTS rows, at most the MAX_WORDS most frequent."""
    documents = counts.getnnz(axis=0)
    most = np.argsort(-documents, kind="stable")[:MAX_WORDS]
    return np.sort(most[documents[most] >= MIN_DOCUMENTS])


def joined_inputs(text: Inputs, numeric: Inputs) -> Inputs:
    """Both side by side."""

    def inputs(train: np.ndarray) -> BothOrders:
        pairs = zip(text(train), numeric(train), strict=True)
        ab, ba = (sp.hstack([left, sp.csr_matrix(right)], "csr") for left, right in pairs)
        return ab, ba

    return inputs


def class_prior(labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """The class shares of the other folds, for each row: (n, 3)."""
    probabilities = np.empty((len(labels), len(LABELS)))
    for train in training_masks(folds):
        probabilities[~train] = np.bincount(labels[train], minlength=len(LABELS)) / train.sum()
    return floored(probabilities)


def predict_baselines(
    battles: pd.DataFrame, features: pd.DataFrame, folds: np.ndarray
) -> dict[str, np.ndarray]:
    """Out-of-fold probabilities (n, 3) of every baseline, from the weakest to the strongest.

    Args:
        battles: prompt, response_a, response_b (lists of turns), label.
        features: the battles' stages.counting.features.count_features.
        folds: (n,) fold of each row.
    """
    labels = battles.label.to_numpy()
    length = numeric_inputs(length_design(features), length_design(exchanged(features)))
    counts, text = count_inputs(features), text_inputs(battles)
    predict = partial(out_of_fold, labels=labels, folds=folds)
    return {
        "prior": class_prior(labels, folds),
        "length": predict(length, strength=C_LENGTH),
        "counts": predict(counts, strength=C_COUNTS),
        "tfidf": predict(text, strength=C_COUNTS),
        "tfidf_counts": predict(joined_inputs(text, counts), strength=C_COUNTS),
    }


def summary(
    labels: np.ndarray,
    predictions: dict[str, np.ndarray],
    groups: np.ndarray,
    settings: Evaluate,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Each baseline's log loss, its gain over the class prior with interval, and accuracy.

    Args:
        labels: (n,) 0 = A, 1 = B, 2 = tie.
        predictions: (n, 3) probabilities by name, `prior` among them.
        groups: (n,) prompt group of each row, the clusters of the bootstrap.
    """
    losses = {name: scores.example_losses(labels, p) for name, p in predictions.items()}
    gains = np.column_stack([losses["prior"] - loss for loss in losses.values()])
    gain = paired_cluster_bootstrap(gains, groups, settings.draws, settings.confidence, seed)
    return {
        name: {
            "log_loss": float(losses[name].mean()),
            "gain_over_prior": float(gain.mean[i]),
            "gain_over_prior_low": float(gain.low[i]),
            "gain_over_prior_high": float(gain.high[i]),
            "accuracy": scores.accuracy(labels, predictions[name]),
        }
        for i, name in enumerate(predictions)
    }


def read_folded_battles(columns: list[str]) -> pd.DataFrame:
    """Rows of the folds with the given columns of their battles: id, group, fold, columns."""
    battles = read_battles(["id", *columns])
    return pd.read_parquet(FOLDS).merge(battles, on="id", validate="one_to_one")


@stage
def main() -> None:
    """Write data/baselines and metrics/baselines.json."""
    params = load()
    battles = read_folded_battles(["prompt", "response_a", "response_b", "label"])
    features = count_features(battles)
    predictions = predict_baselines(battles, features, battles.fold.to_numpy())
    labels, groups = battles.label.to_numpy(), battles.group.to_numpy()
    metrics = summary(labels, predictions, groups, params.evaluate, params.seed)

    BASELINES.parent.mkdir(parents=True, exist_ok=True)
    BASELINES_METRICS.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        f"{name}_{label}": values[:, i]
        for name, values in predictions.items()
        for i, label in enumerate(LABELS)
    }
    battles[["id", "fold"]].assign(**columns).to_parquet(BASELINES, index=False)
    BASELINES_METRICS.write_text(
        json.dumps(metrics, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    for name, values in metrics.items():
        print(f"{name:14}{values['log_loss']:8.4f}")


if __name__ == "__main__":
    main()
