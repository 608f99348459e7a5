"""Scores against hand-computed values and scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics
from scipy.special import softmax

from stages.scoring import scores
from stages.votes.labels import Votes, from_logits
from tests.support.votes import cast

FEW = cast([0, 1, 2, 0])
PROBABILITIES = np.array([[0.5, 0.25, 0.25], [0.2, 0.7, 0.1], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1]])


@pytest.fixture
def many() -> tuple[Votes, np.ndarray]:
    """Votes and probabilities of 500 rows."""
    rng = np.random.default_rng(0)
    return cast(rng.integers(3, size=500)), softmax(rng.normal(size=(500, 3)), axis=1)


def test_a_few_rows_by_hand():
    losses = -np.log([0.5, 0.7, 0.2, 0.1])
    assert scores.example_losses(FEW, PROBABILITIES) == pytest.approx(losses)
    assert scores.log_loss(FEW, PROBABILITIES) == pytest.approx(losses.mean())
    assert scores.log_loss_by_class(FEW, PROBABILITIES) == pytest.approx(
        {"a": losses[[0, 3]].mean(), "b": losses[1], "tie": losses[2]}
    )
    assert scores.accuracy(FEW, PROBABILITIES) == 0.5
    # F1: A has 1 hit of 2 predicted and 2 there, B 1 of 2 and 1, tie none
    assert scores.macro_f1(FEW, PROBABILITIES) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    # squared distances: .25 + .0625 + .0625, .04 + .09 + .01, .36 + .04 + .64, .81 + .64 + .01
    assert scores.brier(FEW, PROBABILITIES) == pytest.approx((0.375 + 0.14 + 1.04 + 1.46) / 4)


def test_scores_agree_with_scikit_learn(many):
    votes, p = many
    labels = votes.labels
    assert scores.log_loss(votes, p) == pytest.approx(sklearn.metrics.log_loss(labels, p))
    brier = sklearn.metrics.brier_score_loss(labels, p, labels=[0, 1, 2], scale_by_half=False)
    assert scores.brier(votes, p) == pytest.approx(brier)
    predicted = p.argmax(axis=1)
    assert scores.accuracy(votes, p) == sklearn.metrics.accuracy_score(labels, predicted)


def test_calibration_error_by_hand():
    # top probabilities .5, .7, .6, .8, each alone in its bin of width 1/15; hits 1, 1, 0, 0
    expected = (0.5 + 0.3 + 0.6 + 0.8) / 4
    assert scores.ece(FEW, PROBABILITIES) == pytest.approx(expected)
    # two rows in one bin offset each other
    p = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    assert scores.ece(cast([0, 1]), p) == pytest.approx(0)


def test_calibration_table_holds_every_row(many):
    votes, p = many
    table = scores.calibration(votes, p)
    assert table["count"].sum() == 500 and len(table) <= 15
    right = np.average(table.accuracy, weights=table["count"])
    assert right == pytest.approx(scores.accuracy(votes, p))
    assert table.confidence.is_monotonic_increasing and table.notna().all(axis=None)


def test_a_certain_prediction_has_a_bin():
    assert scores.calibration(cast([0]), np.array([[1.0, 0, 0]]))["count"].tolist() == [1]


def test_extreme_logits_give_probabilities_without_a_zero():
    p = from_logits(np.array([[1000, -1000, 0], [0, 0, 0]], dtype=np.float32))
    assert p.sum(axis=1) == pytest.approx(1) and (p > 0).all()
    assert p[1] == pytest.approx(1 / 3)
    assert scores.log_loss(cast([1, 0]), p) < 14


def test_ordinary_logits_are_not_moved(many):
    logits = np.random.default_rng(1).normal(size=(50, 3))
    assert from_logits(logits) == pytest.approx(softmax(logits, axis=1), abs=1e-12)


def test_order_consistency_counts_mirrored_predictions():
    ab = np.array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [1 / 3, 1 / 3, 1 / 3]])
    ba = np.array([[0.5, 0.4, 0.1], [0.3, 0.6, 0.1], [1 / 3, 1 / 3, 1 / 3]])
    assert scores.order_consistency(cast([0, 0, 0]), ab, ba) == pytest.approx(2 / 3)


def test_a_class_without_votes_has_no_log_loss_of_its_own():
    votes = cast([0, 1])
    assert scores.log_loss_by_class(votes, PROBABILITIES[:2])["tie"] is None
    assert scores.macro_f1(votes, PROBABILITIES[:2]) == pytest.approx(2 / 3)


def test_confusion_names_each_row():
    table = scores.confusion(FEW, PROBABILITIES)
    assert table.actual.tolist() == ["A", "B", "tie", "A"]
    assert table.predicted.tolist() == ["A", "B", "A", "B"]
