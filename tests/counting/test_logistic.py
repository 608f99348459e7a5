"""The regression that treats both answers alike is the free one on battles in both orders."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from stages.counting.logistic import fit
from stages.votes.labels import Votes

STRENGTH = 0.5


def make_inputs(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Odd and even inputs, and labels that both tell."""
    rng = np.random.default_rng(0)
    odd, even = rng.normal(size=(n, 3)), rng.normal(size=(n, 2))
    logits = np.column_stack([odd[:, 0], -odd[:, 0], even[:, 0] - 0.5])
    return odd, even, (logits + rng.gumbel(size=(n, 3))).argmax(axis=1)


def free(odd: np.ndarray, even: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probabilities of scikit-learn's regression on the battles in both orders."""
    both = np.block([[odd, even], [-odd, even]])
    targets = np.concatenate([labels, np.array([1, 0, 2])[labels]])
    model = LogisticRegression(C=STRENGTH, tol=1e-10, max_iter=5000).fit(both, targets)
    return model.predict_proba(both[: len(odd)])


def test_it_is_the_free_regression_on_both_orders():
    odd, even, labels = make_inputs()
    model = fit((odd, even), Votes(np.eye(3)[labels], np.ones(400)), STRENGTH)
    assert model.predict((odd, even)) == pytest.approx(free(odd, even, labels), abs=2e-4)
    assert model.predict((-odd, even))[:, [1, 0, 2]] == pytest.approx(model.predict((odd, even)))


def test_sparse_inputs_give_the_same():
    odd, even, labels = make_inputs()
    votes = Votes(np.eye(3)[labels], np.ones(400))
    sparse = tuple(sp.csr_matrix(part, dtype=np.float32) for part in (odd, even))
    expected = fit((odd, even), votes, STRENGTH).predict((odd, even))
    assert fit(sparse, votes, STRENGTH).predict(sparse) == pytest.approx(expected, abs=2e-4)


def test_weights_by_class_give_the_same_logits():
    odd, even, labels = make_inputs()
    ab, ba = np.hstack([odd, even]), np.hstack([-odd, even])
    model = fit(((ab - ba) / 2, (ab + ba) / 2), Votes(np.eye(3)[labels], np.ones(400)), STRENGTH)
    weights, intercept = model.by_class()
    assert ab @ weights.T + intercept == pytest.approx(model.logits(((ab - ba) / 2, (ab + ba) / 2)))


def test_a_soft_vote_is_a_vote_for_each_class_by_its_share_and_weights_repeat_votes():
    odd, even, _ = make_inputs(60)
    soft = Votes(np.tile([0.25, 0.25, 0.5], (60, 1)), np.full(60, 4.0))
    plain = Votes(np.eye(3)[np.tile([0, 1, 2, 2], 60)], np.ones(240))
    repeated = np.repeat(odd, 4, axis=0), np.repeat(even, 4, axis=0)
    one, other = fit((odd, even), soft, STRENGTH), fit(repeated, plain, STRENGTH)
    assert one.predict((odd, even)) == pytest.approx(other.predict((odd, even)), abs=1e-4)


def test_without_ties_and_without_inputs():
    odd, even, labels = make_inputs()
    model = fit((odd, even), Votes(np.eye(2)[labels % 2], np.ones(400)), STRENGTH)
    assert model.predict((odd, even)).shape == (400, 2)
    assert np.abs(model.even).max() < 1e-9, "what moves A and B alike decides nothing"
    votes = Votes(np.eye(3)[labels], np.ones(400))
    none = fit((odd[:, :0], even[:, :0]), votes, STRENGTH).predict((odd[:, :0], even[:, :0]))
    ties = votes.shares[2]
    assert none[0] == pytest.approx([(1 - ties) / 2, (1 - ties) / 2, ties], abs=1e-4)
