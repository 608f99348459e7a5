"""How far more votes would take baselines and backbones: log loss by number of training votes."""

import numpy as np
import pandas as pd

from bench.study.figures import intervals, markdown
from bench.study.restore import Restored, Votes, losses
from stages.scoring import scores
from stages.scoring.baselines import TITLES, predict_baselines
from stages.votes.labels import votes_of

PARTS = (8, 4, 2, 1)
DRAWS = 5


def learning_curve(restored: Restored) -> str:
    """Log loss by training votes, ± the standard deviation over draws.

    Of a backbone the draws are its seeds; only those that were trained on a part are shown.
    """
    shown = [c for c in restored.combinations if c.smaller]
    parts = sorted({*PARTS, *(part for c in shown for part in c.smaller)}, reverse=True)
    drawn = {part: _losses(restored.votes, part) for part in parts}
    curves = {title: {part: drawn[part][name] for part in parts} for name, title in TITLES.items()}
    for c in shown:
        curves[c.name] = {part: losses(runs) for part, runs in {1: c.seeds, **c.smaller}.items()}
    doubled = {
        title: curve[2].mean(axis=0) - curve[1].mean(axis=0)
        for title, curve in curves.items()
        if 2 in curve
    }
    gains = intervals(doubled, restored.runs[0])
    rows = [
        (title, *(_mean(curve.get(part)) for part in parts), gains.get(title, ""))
        for title, curve in curves.items()
    ]
    k = restored.votes.battles.fold.nunique()
    votes = len(restored.votes.battles) * (k - 1) / k
    sizes = [f"{round(votes / part):,} votes" for part in parts]
    return markdown((*sizes, "gain of the last doubling"), rows)


def _mean(drawn: np.ndarray | None) -> str:
    if drawn is None:
        return ""
    means = drawn.mean(axis=1)
    return f"{means.mean():.4f}" + (f" ± {means.std(ddof=1):.4f}" if len(means) > 1 else "")


def _losses(votes: Votes, parts: int) -> dict[str, np.ndarray]:
    """Every vote's log loss by baselines that saw a part of the other folds: (draws, n) by name.

    Prompt groups are dealt into parts at random, and each part is predicted out of fold by itself,
    so that a draw predicts every vote once.
    """
    battles = votes.battles
    cast = votes_of(battles)
    if parts == 1:
        return {
            name: scores.example_losses(cast, probabilities)[None]
            for name, probabilities in votes.baselines.items()
        }
    found = {name: np.empty((DRAWS, len(battles))) for name in TITLES}
    for draw in range(DRAWS):
        dealt = _deal(battles.group, parts, seed=draw)
        for rows in (np.flatnonzero(dealt == part) for part in range(parts)):
            mine = battles.iloc[rows].reset_index(drop=True)
            features = votes.features.iloc[rows].reset_index(drop=True)
            predicted = predict_baselines(mine, features, mine.fold.to_numpy())
            for name, probabilities in predicted.items():
                found[name][draw, rows] = scores.example_losses(cast[rows], probabilities)
    return found


def _deal(groups: pd.Series, parts: int, seed: int) -> np.ndarray:
    """The part that each row is in: (n,)."""
    codes = groups.astype("category").cat.codes.to_numpy()
    return np.random.default_rng(seed).permutation(codes.max() + 1)[codes] % parts
