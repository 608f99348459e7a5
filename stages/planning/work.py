"""What a run has to compute: the tokens of each fold, in training and in prediction."""

import math
from dataclasses import dataclass

import numpy as np

from stages.config.params import Params
from stages.model import graphs
from stages.planning.speed import Speed
from stages.planning.tokens import Lengths

DRAWN = 10_000  # batches, at most: those of a longer training have hardly more shapes


@dataclass(frozen=True)
class Load:
    """The votes of a run, and their tokens.

    Attributes:
        votes: that are held out in some fold, or reserved for tuning.
        lengths: of these.
        joined: votes and pairs that join every training; joined_tokens: of all these.
    """

    votes: int
    lengths: Lengths
    joined: int = 0
    joined_tokens: float = 0.0


@dataclass(frozen=True)
class Fold:
    """What one fold computes.

    Attributes:
        examples: that it is trained on; held_out: that it predicts.
        shapes: of rows, each of which is recorded where passes are.
        training: tokens of all epochs; prediction: tokens of all passes over what is held out.
    """

    examples: int
    held_out: int
    shapes: int
    training: float
    prediction: float

    def seconds(self, speed: Speed) -> tuple[float, float, float]:
        """Of the start, of training, and of prediction."""
        trained = self.training * speed.training + self.shapes * speed.shape
        return speed.start, trained, self.prediction * speed.held_out


def fold(load: Load, params: Params, folds: int | None = None) -> Fold:
    """A fold, all being about as large.

    Args:
        folds: how many there are; those of the params if None.
    """
    budget, train = params.budget, params.train
    k, mean = folds or len(params.split.folds), load.lengths.mean
    evaluated = load.votes * (1 - params.split.tuning)
    held_out = evaluated / k
    own = load.votes - held_out
    choosing = train.select == "best" and budget.epochs > 1
    inner = train.inner * (evaluated - held_out) if choosing else 0.0
    examples = own - inner + load.joined
    orders = 1 if train.objective == "reward" else 2
    # After each epoch the held-out votes are read in one order; after the last one, only if the
    # best epoch is to be chosen.
    looks = budget.epochs if choosing else budget.epochs - 1
    read = held_out * (orders + looks) + inner * orders * looks
    training = budget.epochs * ((own - inner) * mean + load.joined_tokens)
    return Fold(
        examples=round(examples),
        held_out=round(held_out),
        shapes=shapes(load.lengths.kept, params, training),
        training=training,
        prediction=read * mean,
    )


def shapes(kept: np.ndarray, params: Params, training: float) -> int:
    """How many shapes the rows of a training have, as batches drawn at random show.

    Args:
        kept: tokens of each vote.
        training: tokens of all epochs.
    """
    budget = params.budget
    grid = graphs.grid(budget.token_budget, budget.max_tokens, 1, training)
    steps = min(math.ceil(training / kept.mean() / budget.batch_size), DRAWN)
    batches = np.random.default_rng(0).choice(kept, (steps, budget.batch_size)).sum(axis=1)
    rows = batches / np.ceil(batches / budget.token_budget)
    return len(np.unique(np.ceil(rows / grid.step)))
