"""Baselines: exchange of the answers, leakage, and real votes."""

import json
import warnings

import numpy as np
import pytest
import yaml

from stages import baselines, prepare, split
from stages.config.params import Evaluate
from stages.counting.features import count_features, exchanged
from stages.scoring.baselines import (
    class_prior,
    length_design,
    predict_baselines,
)
from stages.scoring.metrics import rungs
from stages.votes.labels import MIRRORED, votes_of
from tests.support.places import REPO
from tests.support.votes import cast, make_folds, make_votes, with_votes

SETTINGS = Evaluate(draws=500, confidence=0.95, equivalence=0.005, calibration="none", rules=False)


def test_five_lengths_mirror_when_the_answers_are_exchanged():
    features = count_features(make_votes(20, 0.5))
    ab, ba = length_design(features), length_design(exchanged(features))
    assert ab.shape == (20, 5)
    assert (ab.chars_difference == -ba.chars_difference).all() and ab.chars_difference.any()
    assert (ab.chars_difference_absolute == ba.chars_difference_absolute).all()


def test_class_prior_is_that_of_the_other_folds():
    labels, folds = np.array([0, 0, 1, 2, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
    prior = class_prior(cast(labels), folds)
    assert prior[0] == pytest.approx([0, 2 / 3, 1 / 3], abs=1e-5)
    assert prior[5] == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-5)
    assert (prior > 0).all()


def test_baselines_find_a_planted_effect_and_nothing_in_noise():
    folds = make_folds(600)
    for effect in (1.0, 0.0):
        votes = make_votes(600, effect)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # none reaches the user: the fits converge
            predictions = predict_baselines(votes, count_features(votes), folds)
        table = rungs(votes_of(votes), predictions, np.arange(600), SETTINGS, seed=0)
        assert list(table) == ["prior", "length", "counts", "tfidf", "tfidf_counts"]
        assert table["prior"]["gain_over_prior_high"] == 0
        for name in ("length", "counts", "tfidf_counts"):
            low = table[name]["gain_over_prior_low"]
            assert low > 0.05 if effect else low < 0.01


def test_predictions_mirror_when_the_answers_are_exchanged():
    votes, folds = make_votes(300, 0.5), make_folds(300)
    other = votes.rename(columns={"response_a": "response_b", "response_b": "response_a"})
    other = with_votes(other, np.array(MIRRORED)[votes.label])
    first, second = (
        predict_baselines(frame, count_features(frame), folds) for frame in (votes, other)
    )
    for name in set(first) - {"prior"}:
        mirrored = second[name][:, MIRRORED]
        assert first[name] == pytest.approx(mirrored, abs=2e-3), name


def test_a_fold_is_predicted_without_its_own_labels():
    votes, folds = make_votes(200, 0.5), make_folds(200)
    spoilt = with_votes(votes, np.where(folds == 0, (votes.label + 1) % 3, votes.label))
    held_out = folds == 0
    first, second = (
        predict_baselines(frame, count_features(frame), folds) for frame in (votes, spoilt)
    )
    for name in first:
        assert (first[name][held_out] == second[name][held_out]).all(), name


def test_empty_answers_leave_every_baseline_at_the_prior():
    empty = make_votes(300, 0.0).assign(response_a=[[""]] * 300, response_b=[["", ""]] * 300)
    found = predict_baselines(
        empty, count_features(empty.assign(prompt=[["?"]] * 300)), make_folds(300)
    )
    for name, probabilities in found.items():
        assert probabilities[:, 2] == pytest.approx(found["prior"][:, 2], abs=0.01), name
        assert probabilities[:, :2] == pytest.approx(0.5 - found["prior"][:, [2, 2]] / 2, abs=0.05)


def test_real_votes_give_the_log_losses_of_the_first_trial(real_votes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    raw |= {"scale": "sample", "split": {"folds": [0, 1, 2, 3, 4]}}
    raw["data"]["raw"] = str(real_votes)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    for module in (prepare, split, baselines):
        module.main()
    metrics = json.loads((tmp_path / "metrics/baselines.json").read_text(encoding="utf-8"))
    losses = {name: row["log_loss"] for name, row in metrics.items()}
    trial = {"length": 1.0608, "counts": 1.0464, "tfidf": 1.0875, "tfidf_counts": 1.0392}
    assert losses["prior"] == pytest.approx(1.0973, abs=0.002)
    for name, loss in trial.items():
        assert loss - 0.03 < losses[name] < loss + 0.006, (name, losses)
    assert losses["tfidf_counts"] < losses["counts"] < losses["length"] < losses["prior"]
