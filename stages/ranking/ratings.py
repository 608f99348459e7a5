"""From battles to metrics/ratings.json."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, spearmanr

from stages.ranking.bradley_terry import ANCHOR, POINTS, bootstrap, design, points
from stages.ranking.rated import Rated, battles_by_model
from stages.ranking.style import style_differences

TITLES = {
    "votes": "from votes",
    "votes_style": "from votes, style held constant",
    "predicted": "from predictions",
    "predicted_style": "from predictions, style held constant",
}
LEAST = 3  # models, for a rank correlation
SAME = 0.01  # points: ratings that all lie within are equal but for rounding


@dataclass(frozen=True)
class Settings:
    """How ratings are made.

    Attributes:
        least: votes that a model needs.
        draws, confidence, seed: of the bootstrap.
    """

    least: int
    draws: int
    confidence: float
    seed: int


def rate(found: Rated, settings: Settings) -> dict:
    """Rate models by votes and by what is predicted, each with style held constant, too.

    Args:
        found: battles with wins, weight, group and TURNS, and the column `predicted` if there are
            predictions: A's part of each win by them.

    Returns:
        What metrics/ratings.json holds.
    """
    battles, models = found.battles, found.models
    style = style_differences(battles)
    sources = {"votes": "wins"} | ({"predicted": "predicted"} if "predicted" in battles else {})
    tables, effects = {}, {}
    for name, column in sources.items():
        wins = battles[column].to_numpy()
        tables[name] = _rating(battles, models, wins, style[[]], settings, name)
        both = _rating(battles, models, wins, style, settings, f"{name}_style")
        tables[f"{name}_style"], effects[name] = both[: len(models)], both[len(models) :]
    return {
        "battles": len(battles),
        "groups": int(battles.group.nunique()),
        "left_out": found.left_out,
        "few": found.few,
        "anchor": {"mean": ANCHOR, "points_for_odds_of_10": POINTS},
        "ties": "half a win for each",
        **vars(settings),
        "models": _by_model(tables, battles_by_model(battles)),
        "style": {name: _effects(table, list(style)) for name, table in effects.items()},
        "rank_correlation": correlations(tables),
    }


def _rating(
    battles: pd.DataFrame,
    models: list[str],
    wins: np.ndarray,
    style: pd.DataFrame,
    settings: Settings,
    name: str,
) -> np.ndarray:
    """Points, and the ends of their intervals, of each model and each feature of style: (k, 3)."""
    inputs, weights = design(battles, models, style), battles.weight.to_numpy()
    groups = battles.group.to_numpy()
    drawn = bootstrap(inputs, wins, weights, groups, settings.draws, settings.seed, TITLES[name])
    tail = (1 - settings.confidence) / 2
    ends = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return np.column_stack([points(inputs, wins, weights), *ends])


def _by_model(tables: dict[str, np.ndarray], counts: pd.Series) -> list[dict]:
    """Each model's battles and ratings, the best by votes first."""
    models = sorted(counts.index)
    ranks = {name: rank(table) for name, table in tables.items()}
    rows = [
        {
            "model": model,
            "battles": int(counts[model]),
            **{
                name: {
                    **dict(
                        zip(("rating", "low", "high"), (ANCHOR + t[place]).tolist(), strict=True)
                    ),
                    "rank": int(ranks[name][place]),
                }
                for name, t in tables.items()
            },
        }
        for place, model in enumerate(models)
    ]
    return sorted(rows, key=lambda row: -row["votes"]["rating"])


def rank(table: np.ndarray) -> np.ndarray:
    """One more than how many models are surely better: their intervals lie above this one's.

    Args:
        table: (k, 3) values, low and high ends.
    """
    low, high = table[:, 1], table[:, 2]
    return 1 + (low[None, :] > high[:, None]).sum(axis=1)


def _effects(table: np.ndarray, features: list[str]) -> dict[str, dict[str, float]]:
    """Points for a standard deviation more of each feature of style."""
    names = ("points", "low", "high")
    return {
        feature: dict(zip(names, row.tolist(), strict=True))
        for feature, row in zip(features, table, strict=True)
    }


def correlations(tables: dict[str, np.ndarray]) -> list[dict]:
    """Rank correlations of each two ratings, of those that tell three models or more apart."""
    told = {name: table[:, 0] for name, table in tables.items()}
    known = [
        name for name, values in told.items() if len(values) >= LEAST and np.ptp(values) > SAME
    ]
    return [
        {
            "a": a,
            "b": b,
            "spearman": float(spearmanr(told[a], told[b]).statistic),
            "kendall": float(kendalltau(told[a], told[b]).statistic),
        }
        for a, b in combinations(known, 2)
    ]
