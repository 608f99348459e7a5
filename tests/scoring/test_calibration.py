"""Calibration mends planted faults, keeps what is right, and never sees the rows it scores."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from stages.scoring import calibration, scores
from stages.votes.labels import Votes, from_logits
from tests.support.votes import cast

N = 4000


def drawn(sharpness: float, bias: tuple = (0, 0, 0)) -> tuple[Votes, np.ndarray]:
    """Votes drawn from true probabilities, and predictions that distort those."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(N, 3))
    labels = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((N, 1))).sum(axis=1)
    return cast(labels), from_logits(sharpness * logits + bias)


def test_a_temperature_mends_overconfidence():
    votes, probabilities = drawn(sharpness=3)
    fitted = calibration.fit(votes, probabilities, "temperature")
    assert fitted["temperature"] == pytest.approx(3, rel=0.1) and fitted["bias"] == [0, 0, 0]
    usual = np.full(N, "usual")
    after = calibration.apply(probabilities, fitted, usual)
    assert scores.log_loss(votes, after) < scores.log_loss(votes, probabilities) - 0.2
    assert scores.ece(votes, after) < 0.03 < scores.ece(votes, probabilities)


def test_a_bias_mends_a_class_that_is_predicted_too_often():
    votes, probabilities = drawn(sharpness=1, bias=(0, 0, 1.5))
    temperature, bias = (
        calibration.out_of_fold(
            votes, probabilities, np.full(N, "usual"), np.arange(N) % 5, method, rules=False
        )
        for method in ("temperature", "bias")
    )
    assert scores.log_loss(votes, bias) < scores.log_loss(votes, temperature) - 0.05
    assert calibration.fit(votes, probabilities, "bias")["bias"][2] == pytest.approx(-1.5, abs=0.2)


@pytest.mark.parametrize("method", ["none", "temperature", "bias"])
def test_what_is_right_stays_as_it_is(method):
    votes, probabilities = drawn(sharpness=1)
    fitted = calibration.fit(votes, probabilities, method)
    after = calibration.apply(probabilities, fitted, np.full(N, "usual"))
    tolerance = 1e-9 if method == "none" else 0.05
    assert after == pytest.approx(probabilities, abs=tolerance)


def test_no_vote_is_calibrated_by_itself():
    votes, probabilities = drawn(sharpness=3)
    folds, usual = np.arange(N) % 2, np.full(N, "usual")
    before = calibration.out_of_fold(votes, probabilities, usual, folds, "bias", rules=True)
    changed = cast(np.where(folds == 0, (votes.labels + 1) % 3, votes.labels))
    after = calibration.out_of_fold(changed, probabilities, usual, folds, "bias", rules=True)
    assert after[folds == 0] == pytest.approx(before[folds == 0])
    assert np.abs(after[folds == 1] - before[folds == 1]).max() > 0.1


def test_battles_are_told_apart_by_their_answers():
    battles = pd.DataFrame(
        {
            "response_a": [["x"], ["same ", "y"], ["", " "], ["x"], [""]],
            "response_b": [["y"], ["same", "y"], ["x", ""], ["\n"], [""]],
        }
    )
    assert calibration.kinds(battles).tolist() == [
        "usual",
        "identical",
        "a_empty",
        "b_empty",
        "identical",
    ]


def test_rules_follow_the_votes_and_mirror_a_and_b():
    labels = np.array([2] * 40 + [0, 1] + [1] * 9 + [2] + [0] * 10)
    found = np.array(["identical"] * 42 + ["a_empty"] * 10 + ["b_empty"] * 10)
    fitted = {
        "temperature": 1.0,
        "bias": [0.0] * 3,
        "rules": calibration.fit_rules(cast(labels), found),
    }
    even = np.full((3, 3), 1 / 3)
    kinds = np.array(["identical", "a_empty", "b_empty"])
    identical, a_empty, b_empty = calibration.apply(even, fitted, kinds)
    assert identical[2] > 0.75 and identical[0] == pytest.approx(identical[1])
    assert a_empty[1] > 0.7 and b_empty == pytest.approx(a_empty[[1, 0, 2]])


def test_a_rule_without_votes_keeps_the_backbones_prediction():
    votes, probabilities = drawn(sharpness=1)
    fitted = calibration.fit_all(votes, probabilities, np.full(N, "usual"), "none", rules=True)
    after = calibration.apply(probabilities, fitted, np.full(N, "identical"))
    assert after == pytest.approx(probabilities, abs=1e-5)
