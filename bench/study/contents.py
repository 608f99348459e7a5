"""What is in the backbones' predictions, and what could still be got out of them."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from bench.study.figures import gain, intervals, markdown, side_by_side
from bench.study.restore import Combination, Votes, losses
from stages.pages.tables import interval, sign
from stages.runs.finished import Result
from stages.scoring import scores
from stages.scoring.baselines import TITLES
from stages.scoring.learning import beyond_baseline, log_odds, pooled

TIE = 2  # the label


# Ties, and the better answer


def parts_of_gain(combinations: list[Combination]) -> str:
    """The gain over the class prior, as the sum of two: on whether it is a tie, and on which wins.

    The second is 0 for a tie, so that both are means over all votes.
    """
    first = combinations[0].averaged
    named = {title: (first, name) for name, title in TITLES.items() if name != "prior"}
    named |= {c.title: (c.averaged, "backbone") for c in combinations}
    rows = [(title, *_parts(run, name)) for title, (run, name) in named.items()]
    return markdown(("gain over the class prior", "tie or not", "A or B"), rows)


def _parts(run: Result, name: str) -> list[str]:
    before, after = (_two_losses(run, run.probabilities(n)) for n in ("prior", name))
    on_ties, on_winner = before - after
    gains = {"all": on_ties + on_winner, "ties": on_ties, "winner": on_winner}
    return list(intervals(gains, run).values())


def _two_losses(run: Result, probabilities: np.ndarray) -> np.ndarray:
    """Log loss of tie or not, and of A or B given that it is no tie: (2, n)."""
    tie = probabilities[:, TIE]
    of_tie = -np.log(np.where(run.rows.label == TIE, tie, 1 - tie))
    return np.array([of_tie, scores.example_losses(run.votes, probabilities) - of_tie])


# What the predictions follow


ORDERS = "log odds of A against B in one order, with the other"
ORDERS_AND_LOSS = "agreement of the orders with log loss, over trainings, each less its fold's mean"
READING = {  # how each is written
    "same class in both orders": ".1%",
    ORDERS: "+.2f",
    "their standard deviation, both orders averaged": ".3f",
    "with the difference in length": "+.2f",
    "with the same of length and format": "+.2f",
    "log odds of a tie, with the same of length and format": "+.2f",
    "probability of the answer shown first minus second": "+.3f",
    "probability of a tie minus the share of ties": "+.3f",
}


def reading(combinations: list[Combination], votes: Votes) -> str:
    """Whether the predictions follow the answers or their places, and how far their length.

    Each fold of each seed is a training of its own: their mean, least and most. Correlations are
    Spearman's.
    """
    features = votes.features
    longer = (np.log1p(features.chars_a) - np.log1p(features.chars_b)).to_numpy()
    return side_by_side({c.name: _read(c.seeds, longer) for c in combinations})


def _read(seeds: Sequence[Result], longer: np.ndarray) -> dict[str, str]:
    trainings = pd.DataFrame(
        [values for run in seeds for values in _by_fold(run, longer)], columns=list(READING)
    )
    told = {
        name: interval(values.mean(), values.min(), values.max(), READING[name])
        for name, values in trainings.items()
    }
    if len(seeds) > 1:
        told[ORDERS_AND_LOSS] = sign(_orders_and_loss(seeds, trainings[ORDERS]), "+.2f")
    return told


def _orders_and_loss(seeds: Sequence[Result], agreement: pd.Series) -> float:
    """Spearman's correlation over trainings, each beside those of its fold with other seeds."""
    rows = [run.rows.assign(loss=losses([run])[0]) for run in seeds]
    loss = np.array([r.groupby("fold").loss.mean() for r in rows])
    agreement = agreement.to_numpy().reshape(loss.shape)
    beside = [(values - values.mean(axis=0)).ravel() for values in (agreement, loss)]
    return spearmanr(*beside).statistic


def _by_fold(run: Result, longer: np.ndarray) -> Iterator[list[float]]:
    """The values of READING for each fold."""
    for fold in np.unique(run.rows.fold):
        rows = (run.rows.fold == fold).to_numpy()
        ab, ba, mean, counts = (
            run.probabilities(name)[rows] for name in ("ab", "ba", "backbone", "counts")
        )
        (odds, tie), (odds_of_counts, tie_of_counts) = log_odds(mean).T, log_odds(counts).T
        yield [
            scores.order_consistency(run.votes[rows], ab, ba),
            spearmanr(log_odds(ab)[:, 0], log_odds(ba)[:, 0]).statistic,
            odds.std(),
            spearmanr(odds, longer[rows]).statistic,
            spearmanr(odds, odds_of_counts).statistic,
            spearmanr(tie, tie_of_counts).statistic,
            (ab[:, 0] + ba[:, 1] - ab[:, 1] - ba[:, 0]).mean() / 2,
            mean[:, TIE].mean() - (run.rows.label[rows] == TIE).mean(),
        ]


# What can be fitted on them


def second_stage(combinations: list[Combination]) -> str:
    """Gains of what can be fitted on predictions, each on other votes than it is scored on."""
    return side_by_side({c.title: _fitted(c.averaged) for c in combinations})


def _fitted(run: Result) -> dict[str, str]:
    folds, groups = run.rows.fold.to_numpy(), run.rows.group.to_numpy()
    words, backbone = run.probabilities("tfidf_counts"), run.probabilities("backbone")
    loss = partial(scores.example_losses, run.votes)

    def pool(predictions: list[np.ndarray]) -> np.ndarray:
        return cast(np.ndarray, pooled(predictions, run.votes, folds, groups))  # votes enough

    alone, together = loss(pool([words])), loss(pool([words, backbone]))
    beside_words = beyond_baseline(loss(words), alone, together, run.votes)

    def gained(name: str, probabilities: np.ndarray) -> str:
        return intervals({name: losses([run], name)[0] - loss(probabilities)}, run)[name]

    return {
        "log loss": f"{run.metrics['log_loss']:.4f}",
        "gain of averaging both orders": gained("ab", backbone),
        "of one temperature and biases": gain(run.metrics, "gain_of_calibration"),
        "of a scale for A against B and one for ties": gained("backbone", pool([backbone])),
        "of rules for identical and empty answers": gain(run.metrics, "gain_of_rules"),
        "what it adds to TF-IDF, length and format": intervals({"": beside_words}, run)[""],
    }
