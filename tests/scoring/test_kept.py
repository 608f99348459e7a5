"""Baselines that are kept as plain data say of new battles what those of the folds would say."""

import numpy as np
import pytest

from stages.counting.features import count_features
from stages.scoring import kept
from stages.scoring.baselines import BASELINES, predict_baselines
from stages.votes.labels import mirrored, with_classes
from tests.support.votes import make_folds, make_votes, with_votes

ROWS = 120


def test_every_baseline_can_be_kept():
    assert list(kept.REGRESSIONS) == list(BASELINES)


@pytest.mark.parametrize("classes", [3, 2])
def test_a_kept_baseline_predicts_new_battles_as_out_of_fold(classes, tmp_path):
    votes, folds = make_votes(ROWS, 0.5), make_folds(ROWS)
    votes = with_classes(with_votes(votes, votes.label.to_numpy() % classes))
    out_of_fold = predict_baselines(votes, count_features(votes), folds)
    training, new = votes[folds != 0].reset_index(drop=True), votes[folds == 0]
    for name, expected in out_of_fold.items():
        path = tmp_path / f"{name}.json"
        kept.keep(name, training).save(path)
        found = kept.load(path).predict(new.drop(columns=["label", "weight"]))
        assert found.shape == (len(new), classes)
        assert np.abs(found - expected[folds == 0]).max() < 1e-6, name


def test_exchanged_answers_mirror_what_is_said():
    votes = make_votes(ROWS, 0.5)
    names = {"response_a": "response_b", "response_b": "response_a"}
    for name in ("length", "tfidf_counts"):
        fitted = kept.keep(name, votes)
        there, back = fitted.predict(votes), fitted.predict(votes.rename(columns=names))
        assert there == pytest.approx(mirrored(back), abs=1e-6)
