"""Logistic regression on battles that treats both answers alike.

Its inputs have two parts: `odd` changes its sign when the answers are exchanged, `even` stays as it
is. Odd inputs move the logits of A and B apart, even inputs move both against the tie. A regression
of any form ends at this one when it is trained on every battle in both orders: its loss is convex,
and the same for the exchanged weights. This form needs each battle once, and half the weights.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from scipy.optimize import minimize
from scipy.special import log_softmax

from stages.votes.labels import Votes, from_logits

Matrix: TypeAlias = np.ndarray | sp.csr_matrix
Parts = tuple[Matrix, Matrix]  # odd and even inputs of the same battles, (n, p) and (n, q)

# Where in the logits of A, B and tie a sum of odd inputs goes, and one of even inputs.
ODD = np.array([1.0, -1.0, 0.0]) / np.sqrt(2)
EVEN = np.array([1.0, 1.0, -2.0]) / np.sqrt(6)
# L-BFGS ends when no slope of the mean loss is above SLOPE, or a step gains less than GAIN of it.
SLOPE, GAIN, STEPS = 1e-5, 1e-9, 2000


@dataclass(frozen=True)
class Logistic:
    """A fitted regression.

    Attributes:
        odd, even: weights of both parts, (p,) and (q,).
        constant: of the even sum.
        classes: C, as stages.votes.labels.Votes has it.
    """

    odd: np.ndarray
    even: np.ndarray
    constant: float
    classes: int

    def logits(self, parts: Parts) -> np.ndarray:
        """Logits (n, C) of battles."""
        odd, even = parts
        sums = _times(odd, self.odd), _times(even, self.even) + self.constant
        return np.outer(sums[0], ODD[: self.classes]) + np.outer(sums[1], EVEN[: self.classes])

    def predict(self, parts: Parts) -> np.ndarray:
        """Probabilities (n, C) of battles."""
        return from_logits(self.logits(parts))

    def by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights (C, p) and intercepts (C,), for parts that halve the same p inputs."""
        weights = np.outer(ODD, self.odd) + np.outer(EVEN, self.even)
        return weights[: self.classes], self.constant * EVEN[: self.classes]


def fit(parts: Parts, votes: Votes, strength: float) -> Logistic:
    """Minimise the log loss over both orders under a Gaussian prior on the weights.

    Args:
        strength: the prior's variance, scikit-learn's C.
    """
    odd, even = parts
    width, total = odd.shape[1], votes.weights.sum()

    def model(values: np.ndarray) -> Logistic:
        return Logistic(values[:width], values[width:-1], values[-1], votes.classes)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        logs = log_softmax(model(values).logits(parts), axis=1)
        surplus = votes.weights[:, None] * (np.exp(logs) - votes.targets)
        apart, together = surplus @ ODD[: votes.classes], surplus @ EVEN[: votes.classes]
        slopes = np.r_[_times(odd.T, apart), _times(even.T, together), together.sum()]
        prior = np.append(values[:-1], 0.0) / (2 * strength)  # halved, as the other order counts
        misfit = -(votes.weights[:, None] * votes.targets * logs).sum()
        return (misfit + values @ prior / 2) / total, (slopes + prior) / total

    start = np.zeros(width + even.shape[1] + 1)
    options = {"gtol": SLOPE, "ftol": GAIN, "maxiter": STEPS}
    return model(minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x)


def _times(matrix: Matrix, vector: np.ndarray) -> np.ndarray:
    """Their product in the matrix's own precision, so that no copy of it is made, as float64."""
    return (matrix @ vector.astype(matrix.dtype)).astype(np.float64)
