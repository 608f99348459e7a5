"""Blends of predictions: what their weights are fitted on, and that noise is not flattered."""

import numpy as np
import pytest
from scipy.special import softmax

from stages.scoring.blending import fit_weights, weigh
from stages.scoring.learning import mean_of_logs
from stages.scoring.scores import log_loss
from stages.votes.labels import Votes
from tests.support.votes import cast, make_folds

ROWS = 300


def votes_and_guesses(skills: list[float], seed: int = 0) -> tuple[Votes, list[np.ndarray]]:
    """Votes, and predictions that see them through noise; one without skill is noise alone."""
    rng = np.random.default_rng(seed)
    votes = cast(rng.integers(3, size=ROWS), weights=rng.uniform(0.5, 1.5, ROWS))
    noise = rng.normal(scale=0.7, size=(len(skills), ROWS, 3))
    seen = (s * votes.targets + n for s, n in zip(skills, noise, strict=True))
    return votes, [softmax(each, axis=1) for each in seen]


def test_equal_weights_are_the_mean_of_logs():
    votes, guesses = votes_and_guesses([1.0, 0.5, 0.0])
    folds = make_folds(ROWS)
    weights = weigh("equal", guesses, votes, folds)
    assert weights.overall == pytest.approx([1 / 3] * 3)
    assert weights.blend(guesses, folds) == pytest.approx(mean_of_logs(guesses))
    product = np.prod(guesses, axis=0) ** (1 / 3)
    assert mean_of_logs(guesses) == pytest.approx(product / product.sum(axis=1, keepdims=True))


def test_fitted_weights_are_the_best_on_the_simplex():
    votes, guesses = votes_and_guesses([0.8, 0.5])
    grid = np.linspace(0, 1, 201)
    losses = [log_loss(votes, mean_of_logs(guesses, np.array([w, 1 - w]))) for w in grid]
    assert fit_weights(guesses, votes)[0] == pytest.approx(grid[np.argmin(losses)], abs=6e-3)


def test_what_only_harms_gets_no_weight():
    votes, (good, _) = votes_and_guesses([2.0, 0.0])
    against = softmax(-3 * votes.targets, axis=1)
    assert fit_weights([good, against], votes) == pytest.approx([1, 0], abs=1e-6)


def test_the_weights_of_a_fold_are_those_fitted_without_it():
    votes, guesses = votes_and_guesses([1.0, 0.7, 0.0])
    folds = make_folds(ROWS)
    weights = weigh("fitted", guesses, votes, folds)
    for fold, found in weights.by_fold.items():
        others = folds != fold
        assert found == pytest.approx(fit_weights([g[others] for g in guesses], votes[others]))
        assert found.sum() == pytest.approx(1) and (found >= 0).all()
    changed = [np.where((folds == 0)[:, None], g[::-1], g) for g in guesses]
    again = weigh("fitted", changed, votes, folds)
    assert again.by_fold[0] == pytest.approx(weights.by_fold[0])
    assert again.by_fold[1] != pytest.approx(weights.by_fold[1], abs=1e-3)
    assert weights.overall == pytest.approx(fit_weights(guesses, votes))


def test_fitted_weights_do_not_flatter_a_blend_of_noise():
    """Weights fitted on the votes that they are scored on would always look better than equal."""
    nested, flattered = [], []
    for seed in range(10):
        votes, guesses = votes_and_guesses([0.0] * 6, seed)
        folds = make_folds(ROWS)
        equal = log_loss(votes, mean_of_logs(guesses))
        weights = weigh("fitted", guesses, votes, folds)
        nested.append(log_loss(votes, weights.blend(guesses, folds)) - equal)
        flattered.append(log_loss(votes, mean_of_logs(guesses, weights.overall)) - equal)
    assert np.mean(flattered) < 0 < np.mean(nested)
