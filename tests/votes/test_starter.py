"""The starter set is sound, and neither lengths nor format nor words tell the better answer."""

import numpy as np
import pandas as pd
import pytest

from stages.counting.features import count_features
from stages.scoring.baselines import predict_baselines
from stages.scoring.scores import log_loss
from stages.votes.folds import assign
from stages.votes.groups import find_groups
from stages.votes.labels import votes_of
from tests.support.places import REPO
from tests.support.raw import frame, read

STARTER = REPO / "data/raw/starter.csv"


@pytest.fixture(scope="module")
def battles() -> pd.DataFrame:
    part = read(STARTER)
    assert part.quarantine.empty
    return frame(part)


def test_it_has_what_its_card_says(battles):
    assert len(battles) == 490
    assert battles.label.value_counts().to_dict() == {0: 181, 1: 181, 2: 128}
    assert find_groups(battles.prompt).names.nunique() == 128
    assert (battles.prompt.map(len) > 1).sum() == 41
    card = STARTER.with_name("README.md").read_text(encoding="utf-8")
    assert "490 votes over 128 prompts" in card and "181 A, 181 B, 128 ties" in card


def test_no_pair_is_one_answer_twice(battles):
    for a, b in zip(battles.response_a, battles.response_b, strict=True):
        assert list(a) != list(b) and all(a) and all(b)


def test_no_baseline_gains_more_than_0_02_over_the_prior(battles):
    groups = find_groups(battles.prompt).names.to_numpy()
    votes = votes_of(battles)
    features = count_features(battles)
    gains = {name: [] for name in ("length", "counts", "tfidf", "tfidf_counts")}
    for seed in range(3):
        folds = assign(votes.labels, groups, 5, seed)
        found = predict_baselines(battles, features, folds)
        for name, values in gains.items():
            values.append(log_loss(votes, found["prior"]) - log_loss(votes, found[name]))
    assert max(np.mean(values) for values in gains.values()) <= 0.02
