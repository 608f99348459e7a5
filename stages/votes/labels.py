"""What a vote can say, and probabilities over that: (n, 3) in the order of LABELS."""

import numpy as np
from scipy.special import softmax

LABELS = ("a", "b", "tie")  # a label is a place in this order: 0, 1, 2
MIRRORED = (1, 0, 2)  # what a label, or a column, becomes when A and B are exchanged
FLOOR = 1e-6  # the least probability: one row costs at most 13.8 of log loss


def floored(probabilities: np.ndarray) -> np.ndarray:
    """Raise probabilities to at least about FLOOR and let each row sum to 1 again."""
    raised = np.maximum(np.asarray(probabilities, dtype=np.float64), FLOOR)
    return raised / raised.sum(axis=1, keepdims=True)


def from_logits(logits: np.ndarray) -> np.ndarray:
    """Softmax of (n, 3) logits in float64; rows sum to 1 and none is 0."""
    return floored(softmax(np.asarray(logits, dtype=np.float64), axis=1))
