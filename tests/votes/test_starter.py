"""The starter set is sound, and neither its lengths nor its format tell the better answer."""

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
    assert len(battles) == 322
    assert battles.label.value_counts().to_dict() == {0: 120, 1: 120, 2: 82}
    assert find_groups(battles.prompt).names.nunique() == 136
    assert (battles.prompt.map(len) > 1).sum() == 34
    card = STARTER.with_name("README.md").read_text(encoding="utf-8")
    assert "322 votes over 136 prompts" in card and "120 A, 120 B, 82 ties" in card


def test_no_pair_is_one_answer_twice(battles):
    for a, b in zip(battles.response_a, battles.response_b, strict=True):
        assert list(a) != list(b) and all(a) and all(b)


def test_length_and_format_gain_no_more_than_0_02_over_the_prior(battles):
    groups = find_groups(battles.prompt).names.to_numpy()
    votes = votes_of(battles)
    features = count_features(battles)
    gains = {"length": [], "counts": []}
    for seed in range(3):
        folds = assign(votes.labels, groups, 5, seed)
        found = predict_baselines(battles, features, folds)
        for name, values in gains.items():
            values.append(log_loss(votes, found["prior"]) - log_loss(votes, found[name]))
    assert max(np.mean(values) for values in gains.values()) <= 0.02
