"""Several predictions of the same votes blended into one: the mean of their log probabilities.

The weights are equal, or fitted. Those of a fold are then fitted on the other folds' out-of-fold
predictions, so that no vote has a part in the weights under which it is scored. The models that
made the other folds' predictions were trained on the fold's votes, as for calibration
(stages.scoring.calibration). A few weights find little of that; a regression on many inputs would.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax

from stages.config.params import Evaluate
from stages.scoring import scores
from stages.scoring.learning import mean_of_logs
from stages.scoring.metrics import evaluate, intervals
from stages.scoring.out_of_fold import all_probabilities
from stages.votes.labels import Votes, votes_of

How = Literal["equal", "fitted"]
GAIN = 1e-10  # of log loss; the fit of weights ends when a step gains less


class Member(NamedTuple):
    """Out-of-fold probabilities (n, C) by one member, in both orders and averaged over them."""

    title: str
    ab: np.ndarray
    ba: np.ndarray
    averaged: np.ndarray


@dataclass(frozen=True)
class Weights:
    """Weights of k members in the mean; not negative, and with the sum 1.

    Attributes:
        by_fold: (k,) for each fold's rows.
        overall: (k,) for new battles.
    """

    by_fold: dict[int, np.ndarray]
    overall: np.ndarray

    def blend(self, predictions: Sequence[np.ndarray], folds: np.ndarray) -> np.ndarray:
        """Probabilities (n, C) of rows by their folds' weights.

        Args:
            predictions: (n, C) of each member.
            folds: (n,) fold of each row.
        """
        blended = np.empty_like(predictions[0])
        for fold, weights in self.by_fold.items():
            rows = folds == fold
            blended[rows] = mean_of_logs([each[rows] for each in predictions], weights)
        return blended


@dataclass(frozen=True)
class Blended:
    """A blend as it is scored: what the functions of the same names give of a run."""

    weights: Weights
    probabilities: dict[str, np.ndarray]
    calibration: dict
    metrics: dict
    ladder: dict


def weigh(how: How, predictions: Sequence[np.ndarray], votes: Votes, folds: np.ndarray) -> Weights:
    """The weights of members, equal or fitted.

    Args:
        predictions: (n, C) of each member, out of fold.
        folds: (n,) fold of each row.
    """
    count, known = len(predictions), [int(fold) for fold in np.unique(folds)]
    if how == "equal":
        equal = np.full(count, 1 / count)
        return Weights(dict.fromkeys(known, equal), equal)
    others = {fold: folds != fold for fold in known}
    by_fold = {
        fold: fit_weights([each[rows] for each in predictions], votes[rows])
        for fold, rows in others.items()
    }
    return Weights(by_fold, fit_weights(predictions, votes))


def fit_weights(predictions: Sequence[np.ndarray], votes: Votes) -> np.ndarray:
    """Weights (k,) on the simplex under which the votes are most likely: a convex problem.

    Args:
        predictions: (n, C) of each of k members.
    """
    logs, count = np.log(np.stack(predictions)), len(predictions)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        blended = log_softmax(np.tensordot(weights, logs, axes=1), axis=1)
        surplus = (np.exp(blended) - votes.targets) * logs
        slopes = np.average(surplus.sum(axis=2), axis=1, weights=votes.weights)
        return votes.mean(-(votes.targets * blended).sum(axis=1)), slopes

    sum_is_one = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}
    found = minimize(
        loss,
        np.full(count, 1 / count),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints=[sum_is_one],
        options={"ftol": GAIN},
    ).x.clip(0)
    return found / found.sum()


def evaluate_blend(
    rows: pd.DataFrame,
    members: Sequence[Member],
    baselines: dict[str, np.ndarray],
    how: How,
    start: str,
    settings: Evaluate,
    seed: int,
) -> Blended:
    """Blend members, and score the blend as a run is scored.

    Args:
        rows: votes, fold, group and answers of the battles; all others are in the same order.
        baselines: probabilities (n, C) of each, by name.
        start: the baseline to beat, one of their names.
    """
    votes, folds = votes_of(rows), rows.fold.to_numpy()
    weights = weigh(how, [each.averaged for each in members], votes, folds)
    ab, ba, averaged = (
        weights.blend([getattr(each, name) for each in members], folds)
        for name in ("ab", "ba", "averaged")
    )
    probabilities, fitted = all_probabilities(rows, ab, ba, baselines, settings, averaged)
    metrics, ladder = evaluate(rows, probabilities, settings, seed, start)
    losses = {m.title: scores.example_losses(votes, m.averaged) for m in members}
    best = min(losses, key=lambda title: votes.mean(losses[title]))
    gain = losses[best] - scores.example_losses(votes, averaged)
    table = pd.DataFrame({"gain_over_best_member": gain})
    metrics |= intervals(table, votes.weights, rows.group.to_numpy(), settings, seed)
    metrics |= {"best_member": best, "weights": how}
    metrics["members"] = [
        {
            "title": title,
            "log_loss": votes.mean(loss),
            "weight": float(weights.overall[place]),
            "weight_by_fold": {f"fold_{k}": float(w[place]) for k, w in weights.by_fold.items()},
        }
        for place, (title, loss) in enumerate(losses.items())
    ]
    return Blended(weights, probabilities, fitted, metrics, ladder)
