"""Scores of single answers, from Python: what they mean, and which values they are given for."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from stages.config.errors import UserError
from stages.reward.answers import Answer
from stages.reward.scorer import Scorer, load_scorer
from stages.votes.rows import BadRow
from tests.support.trained import FOLDS, Trained

pytestmark = pytest.mark.rounding

USER, ASSISTANT, SYSTEM = ("user", "assistant", "system")
QUESTION, GOOD, BAD = "What is 2 + 2?", "It is 4.", "Fish, I think."


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"), tiny, objective="reward")


@pytest.fixture(scope="module")
def scorer(trained) -> Scorer:
    with trained.inside():
        return load_scorer()


@pytest.fixture(scope="module")
def pairwise(tmp_path_factory, tiny) -> Scorer:
    """A run that compares two answers."""
    trained = Trained(tmp_path_factory.mktemp("pairwise"), tiny)
    with trained.inside():
        return load_scorer()


def test_it(trained, scorer):
    print(scorer.score(QUESTION, GOOD), scorer.score(QUESTION, BAD))
