"""Backbones pooled with what counting and words say; nothing is fitted for it."""

from collections.abc import Sequence

import numpy as np

from bench.study.figures import claim, described, markdown, off_tuned_fold
from bench.study.restore import Combination
from stages.runs.finished import Result
from stages.scoring import scores
from stages.scoring.baselines import TITLES
from stages.scoring.learning import mean_of_logs

WITH = ("counts", "tfidf_counts")


def pooled(combinations: list[Combination]) -> str:
    """Log loss of each backbone pooled with a baseline, and what that gains over the baseline."""
    votes, elsewhere = described(combinations), off_tuned_fold(combinations[0].averaged)
    rows = []
    for c in combinations:
        for name in WITH:
            each, together = (_gain(runs, name) for runs in (c.seeds, [c.averaged]))
            over_votes, over_folds, _ = claim(each, votes)
            rows.append(
                (
                    f"{c.name} with {TITLES[name]}",
                    f"{_losses(c.seeds, name).mean():.4f}",
                    f"{_losses([c.averaged], name).mean():.4f}",
                    over_votes,
                    over_folds,
                    claim(each[elsewhere], votes[elsewhere])[0],
                    claim(together, votes)[0],
                )
            )
    header = (
        *("log loss", "mean prediction", "gain over that baseline", "the same over folds"),
        *("without fold 0", "mean prediction: gain"),
    )
    return markdown(header, rows)


def _losses(runs: Sequence[Result], name: str) -> np.ndarray:
    """Log loss of each vote by one of each run pooled with a baseline: (runs, n)."""
    return np.array(
        [scores.example_losses(run.votes, mean_of_logs(_both(run, name))) for run in runs]
    )


def _both(run: Result, name: str) -> list[np.ndarray]:
    return [run.probabilities("backbone"), run.probabilities(name)]


def _gain(runs: Sequence[Result], name: str) -> np.ndarray:
    """Of each vote, over the baseline alone; the mean over runs."""
    alone = scores.example_losses(runs[0].votes, runs[0].probabilities(name))
    return alone - _losses(runs, name).mean(axis=0)
