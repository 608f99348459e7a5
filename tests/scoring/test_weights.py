"""Votes that say probabilities, and votes that count more than once."""

import math

import numpy as np
import pandas as pd
import pytest

from stages.comparison import paired
from stages.scoring import calibration, scores
from stages.scoring.baselines import class_prior
from stages.scoring.bootstrap import paired_cluster_bootstrap
from stages.scoring.learning import beyond_baseline, pooled
from stages.scoring.metrics import by_fold
from stages.votes.labels import Votes
from tests.support.votes import cast

N = 60
TIMES = np.arange(N) % 3 + 1  # how often each vote counts
COPIES = np.repeat(np.arange(N), TIMES)
SCORES = ["log_loss", "log_loss_by_class", "accuracy", "macro_f1", "brier", "ece"]
FOLDS, GROUPS = np.arange(N) // 10 % 2, np.arange(N) % 10


class Case:
    """Votes that say probabilities, with weights; and the same, each as often as it counts."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.targets = rng.dirichlet(np.ones(3), size=N)
        self.probabilities = rng.dirichlet(np.ones(3), size=N)
        self.ba = rng.dirichlet(np.ones(3), size=N)
        self.differences = rng.normal(size=N)
        self.weighted = Votes(self.targets, TIMES.astype(float))
        self.copied = Votes(self.targets[COPIES], np.ones(len(COPIES)))


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


# Probabilities


def test_log_loss_is_the_cross_entropy_against_what_the_vote_says():
    votes = Votes(np.array([[0.5, 0.25, 0.25], [0, 0, 1]]), np.array([3.0, 1.0]))
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    first = -(0.5 * math.log(0.6) + 0.25 * math.log(0.3) + 0.25 * math.log(0.1))
    assert scores.example_losses(votes, probabilities) == pytest.approx([first, -math.log(0.6)])
    assert scores.log_loss(votes, probabilities) == pytest.approx((3 * first - math.log(0.6)) / 4)
    by_class = scores.log_loss_by_class(votes, probabilities)
    assert by_class["a"] == pytest.approx(-math.log(0.6))
    assert by_class["tie"] == pytest.approx(-(0.75 * math.log(0.1) + math.log(0.6)) / 1.75)
    distance = (0.1**2 + 0.05**2 + 0.15**2, 0.2**2 + 0.2**2 + 0.4**2)
    assert scores.brier(votes, probabilities) == pytest.approx((3 * distance[0] + distance[1]) / 4)


def test_the_least_log_loss_is_the_entropy_of_the_votes(case):
    entropy = -(case.targets * np.log(case.targets)).sum(axis=1)
    found = scores.example_losses(case.weighted, case.targets)
    assert found == pytest.approx(entropy)
    assert (found < scores.example_losses(case.weighted, case.probabilities)).all()


def test_the_label_is_the_class_that_the_vote_finds_most_probable():
    votes = Votes(np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]]), np.ones(2))
    assert votes.labels.tolist() == [1, 0]
    assert scores.accuracy(votes, np.array([[0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])) == 0.5
    assert scores.confusion(votes, votes.targets).actual.tolist() == ["B", "A"]


def test_without_ties_scores_are_those_of_two_classes():
    votes, probabilities = (
        cast([0, 1, 1], classes=2),
        np.array([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]),
    )
    losses = -np.log([0.8, 0.7, 0.4])
    assert scores.log_loss(votes, probabilities) == pytest.approx(losses.mean())
    assert scores.log_loss_by_class(votes, probabilities) == pytest.approx(
        {"a": losses[0], "b": losses[1:].mean()}
    )
    assert scores.macro_f1(votes, probabilities) == pytest.approx(2 / 3)
    assert scores.brier(votes, np.full((3, 2), 0.5)) == pytest.approx(0.5)
    even = np.full((3, 2), 0.5)
    assert scores.log_loss(votes, even) == pytest.approx(math.log(2))


# Weights


@pytest.mark.parametrize("name", SCORES)
def test_a_vote_of_weight_two_is_scored_as_two_votes(case, name):
    score = getattr(scores, name)
    expected = score(case.copied, case.probabilities[COPIES])
    assert score(case.weighted, case.probabilities) == pytest.approx(expected)
    assert score(cast(case.weighted.labels), case.probabilities) != pytest.approx(expected)


def test_so_it_is_in_shares_order_consistency_and_bins(case):
    votes, copied, p = case.weighted, case.copied, case.probabilities
    assert votes.shares == pytest.approx(case.targets[COPIES].mean(axis=0))
    consistent = scores.order_consistency(copied, p[COPIES], case.ba[COPIES])
    assert scores.order_consistency(votes, p, case.ba) == pytest.approx(consistent)
    bins = (scores.calibration(votes, p), scores.calibration(copied, p[COPIES]))
    pd.testing.assert_frame_equal(*bins)


def test_so_it_is_in_the_class_prior_and_in_each_folds_means(case):
    prior = class_prior(case.copied, FOLDS[COPIES])
    assert class_prior(case.weighted, FOLDS)[COPIES] == pytest.approx(prior)
    given = (case.probabilities, case.ba, case.targets)
    found = by_fold(case.weighted, *given, FOLDS)
    expected = by_fold(case.copied, *(each[COPIES] for each in given), FOLDS[COPIES])
    for fold in ("fold_0", "fold_1"):
        assert found["folds"][fold] == pytest.approx(expected["folds"][fold])


def test_so_it_is_in_the_bootstrap(case):
    found = paired_cluster_bootstrap(case.differences, GROUPS, 500, 0.9, 1, TIMES.astype(float))
    copied = case.differences[COPIES]
    assert found == pytest.approx(paired_cluster_bootstrap(copied, GROUPS[COPIES], 500, 0.9, 1))
    assert found.mean == pytest.approx(copied.mean())


def test_so_it_is_in_calibration_and_rules(case):
    kinds = np.array(calibration.KINDS)[np.arange(N) % 4]
    weighted = (case.weighted, case.probabilities, kinds)
    copied = (case.copied, case.probabilities[COPIES], kinds[COPIES])
    found, expected = (
        calibration.fit_all(*each, "bias", rules=True) for each in (weighted, copied)
    )
    for kind, counts in expected["rules"].items():
        assert found["rules"][kind] == pytest.approx(counts)
    assert found["temperature"] == pytest.approx(expected["temperature"], rel=1e-3)
    assert found["bias"] == pytest.approx(expected["bias"], abs=1e-3)
    unweighted = calibration.fit(cast(case.weighted.labels), case.probabilities, "bias")
    assert found["bias"] != pytest.approx(unweighted["bias"], abs=0.1)


def test_so_it_is_in_a_regression(case):
    found = pooled([case.probabilities], case.weighted, np.zeros(N), GROUPS)
    copied = ([case.probabilities[COPIES]], case.copied, np.zeros(len(COPIES)), GROUPS[COPIES])
    assert found[COPIES] == pytest.approx(pooled(*copied), abs=1e-3)


def test_a_vote_that_says_probabilities_is_in_a_regression_a_vote_for_each_class(case):
    split = np.repeat(np.arange(N), 3)
    plain = cast(np.tile([0, 1, 2], N), (case.targets * TIMES[:, None]).ravel())
    found = pooled([case.probabilities], case.weighted, np.zeros(N), GROUPS)
    given = ([case.probabilities[split]], plain, np.zeros(3 * N), GROUPS[split])
    assert found[split] == pytest.approx(pooled(*given), abs=1e-3)
    assert np.abs(found - case.weighted.shares).max() > 0.01, "it says something"


def test_the_weights_say_which_baseline_a_backbone_has_to_add_to():
    alone, calibrated = np.array([1.0, 3.0]), np.array([2.0, 1.0])
    votes = cast([0, 1], [9.0, 1.0])
    assert beyond_baseline(alone, calibrated, np.zeros(2), votes).tolist() == [1, 3]
    assert beyond_baseline(alone, calibrated, np.zeros(2), cast([0, 1])).tolist() == [2, 1]


def test_so_it_is_between_two_runs(case):
    rows = pd.DataFrame({"group": GROUPS, "label": np.array(["a", "b"])[np.arange(N) % 2]})
    rows = rows.assign(turns="one", length="short", truncated="no", script="latin")
    copied = rows.iloc[COPIES].reset_index(drop=True)
    given = (case.differences, rows, 500, 0.95, 0, TIMES.astype(float))
    found = paired.bootstrap(*given)
    expected = paired.bootstrap(case.differences[COPIES], copied, 500, 0.95, 0)
    ends = ("difference", "low", "high", "p_value")
    assert [found[end] for end in ends] == pytest.approx([expected[end] for end in ends])
    of_folds = paired.corrected_t(case.differences, FOLDS, 0.95, TIMES.astype(float))
    assert of_folds == pytest.approx(
        paired.corrected_t(case.differences[COPIES], FOLDS[COPIES], 0.95)
    )
