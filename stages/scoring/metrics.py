"""The metrics of a run, as metrics/metrics.json holds them.

A new one is a function in stages.scoring.scores and a line in `quality`.
"""

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
import pandas as pd

from stages.config.params import Evaluate
from stages.scoring import scores
from stages.scoring.baselines import TITLES
from stages.scoring.bootstrap import ENDS, Interval, bootstrap_columns
from stages.scoring.learning import beyond_baseline, learned
from stages.votes.labels import Votes, votes_of


def evaluate(
    rows: pd.DataFrame,
    probabilities: dict[str, np.ndarray],
    settings: Evaluate,
    seed: int,
    start: str = "prior",
) -> tuple[dict, dict]:
    """All metrics but what training cost.

    Args:
        rows: votes, group and fold of the battles; the probabilities are in the same order.
        probabilities: as stages.scoring.out_of_fold.all_probabilities gives them.
        start: the baseline to beat, as stages.scoring.learning.reference names it.

    Returns:
        The metrics, and the ladder: the rungs of each baseline, of `backbone` and of `pooled`.
    """
    votes, groups, folds = votes_of(rows), rows.group.to_numpy(), rows.fold.to_numpy()
    ab, ba, averaged = (probabilities[name] for name in ("ab", "ba", "backbone"))
    prior, calibrated = probabilities["prior"], probabilities["by_rule"]
    names = [name for name in (*TITLES, "backbone", "pooled") if name in probabilities]
    climbing = {name: probabilities[name] for name in names}
    gained = {"rungs": over_prior(votes, climbing), "gains": gains(votes, probabilities, start)}
    if "pooled" in climbing:
        name = f"gain_over_{settings.pool}"
        gained["pooled"] = pd.DataFrame({name: _over(votes, probabilities, settings.pool)})
    # All on the same draws, which take longer than what is computed on them.
    drawn = _bootstrap(pd.concat(gained, axis=1), votes.weights, groups, settings, seed)
    by_part = {part: {name: drawn[part, name] for name in gained[part]} for part in gained}
    ladder = _ladder(votes, climbing, by_part["rungs"])
    found = _ends(by_part["gains"])
    found |= {f"gain_over_prior{end}": ladder["backbone"][f"gain_over_prior{end}"] for end in ENDS}
    low, high = (cast(float, found[f"gain_over_{start}{end}"]) for end in ("_low", "_high"))
    metrics = {
        **quality(votes, ab, ba, averaged),
        "prior_log_loss": ladder["prior"]["log_loss"],
        **found,
        "log_loss_calibrated": scores.log_loss(votes, calibrated),
        "ece_calibrated": scores.ece(votes, calibrated),
        "learned": learned(low, high, settings.equivalence),
        "reference": start,
        "n_rows": len(rows),
        "n_classes": votes.classes,
        **by_fold(votes, averaged, ab, prior, folds),
        "baselines": {name: ladder[name]["log_loss"] for name in TITLES},
    }
    if "pooled" in ladder:
        over = _ends(by_part["pooled"])
        metrics["pooled"] = {"with": settings.pool, **ladder["pooled"], **over}
    return metrics, ladder


def _over(votes: Votes, probabilities: dict[str, np.ndarray], baseline: str) -> np.ndarray:
    """What pooling gains on the baseline alone, row by row: (n,)."""
    before, after = (scores.example_losses(votes, probabilities[n]) for n in (baseline, "pooled"))
    return before - after


def quality(votes: Votes, ab: np.ndarray, ba: np.ndarray, averaged: np.ndarray) -> dict:
    """Scores of probabilities (n, C): of both orders averaged unless the name says single."""
    return {
        "log_loss": scores.log_loss(votes, averaged),
        "log_loss_single": scores.log_loss(votes, ab),
        "accuracy": scores.accuracy(votes, averaged),
        "macro_f1": scores.macro_f1(votes, averaged),
        "brier": scores.brier(votes, averaged),
        "ece": scores.ece(votes, averaged),
        "log_loss_by_class": scores.log_loss_by_class(votes, averaged),
        "order_consistency": scores.order_consistency(votes, ab, ba),
    }


def gains(votes: Votes, probabilities: dict[str, np.ndarray], start: str) -> pd.DataFrame:
    """What the backbone gains in log loss, row by row, on what; a column a gain.

    That on the class prior is left to `rungs`.

    A column of NaN is a gain that too few votes leave unknown.
    """
    losses = {name: scores.example_losses(votes, p) for name, p in probabilities.items()}
    beyond: np.ndarray | float = math.nan
    if "features" in losses:
        pooled = losses["features"], losses["with_features"]
        beyond = beyond_baseline(losses["counts"], *pooled, votes)
    over = dict.fromkeys(["counts", *({start} - {"prior"})])
    return pd.DataFrame(
        {
            **{f"gain_over_{name}": losses[name] - losses["backbone"] for name in over},
            "gain_beyond_features": beyond,
            "gain_of_calibration": losses["backbone"] - losses["calibrated"],
            "gain_of_rules": losses["calibrated"] - losses["by_rule"],
        }
    )


def intervals(
    values: pd.DataFrame, weights: np.ndarray, groups: np.ndarray, settings: Evaluate, seed: int
) -> dict[str, float | None]:
    """The mean of each column of per-row values, and its ends NAME_low and NAME_high.

    None where a column is of NaN: what was not computed.
    """
    return _ends(_bootstrap(values, weights, groups, settings, seed))


def _bootstrap(
    values: pd.DataFrame, weights: np.ndarray, groups: np.ndarray, settings: Evaluate, seed: int
) -> dict:
    """The interval of each column, by its name."""
    draws, confidence = settings.draws, settings.confidence
    found = bootstrap_columns(values.to_numpy(), groups, draws, confidence, seed, weights)
    return dict(zip(values, found, strict=True))


def _ends(found: Mapping[str, Interval]) -> dict[str, float | None]:
    return {
        f"{name}{end}": None if math.isnan(value) else value
        for name, interval in found.items()
        for end, value in zip(ENDS, interval, strict=True)
    }


def rungs(
    votes: Votes,
    predictions: dict[str, np.ndarray],
    groups: np.ndarray,
    settings: Evaluate,
    seed: int,
) -> dict[str, dict[str, float]]:
    """The log loss of each prediction, its gain over the class prior with interval, and accuracy.

    Args:
        predictions: (n, C) probabilities by name, `prior` among them.
        groups: (n,) prompt group of each row, the clusters of the bootstrap.
    """
    gained = over_prior(votes, predictions)
    found = _bootstrap(gained, votes.weights, groups, settings, seed)
    return _ladder(votes, predictions, found)


def over_prior(votes: Votes, predictions: dict[str, np.ndarray]) -> pd.DataFrame:
    """What each prediction gains on the class prior in log loss, row by row; a column each."""
    losses = {name: scores.example_losses(votes, p) for name, p in predictions.items()}
    return pd.DataFrame({name: losses["prior"] - loss for name, loss in losses.items()})


def _ladder(
    votes: Votes, predictions: dict[str, np.ndarray], gained: Mapping[str, Interval]
) -> dict[str, dict[str, float]]:
    return {
        name: {
            "log_loss": scores.log_loss(votes, probabilities),
            "gain_over_prior": gained[name].mean,
            "gain_over_prior_low": gained[name].low,
            "gain_over_prior_high": gained[name].high,
            "accuracy": scores.accuracy(votes, probabilities),
        }
        for name, probabilities in predictions.items()
    }


def by_fold(
    votes: Votes, averaged: np.ndarray, ab: np.ndarray, prior: np.ndarray, folds: np.ndarray
) -> dict:
    """Each fold's losses and accuracy, and mean and standard deviation of its log loss.

    Args:
        averaged, ab, prior: (n, C) probabilities of the backbone, with both orders averaged and in
            one, and of the class prior.
    """
    values = {
        "log_loss": scores.example_losses(votes, averaged),
        "log_loss_single": scores.example_losses(votes, ab),
        "prior_log_loss": scores.example_losses(votes, prior),
        "accuracy": scores.right(votes, averaged),
    }
    means = pd.DataFrame(
        {name: votes[folds == fold].mean(value[folds == fold]) for name, value in values.items()}
        for fold in np.unique(folds)
    )
    means.index = np.unique(folds)
    return {
        "folds": {f"fold_{fold}": row for fold, row in means.to_dict("index").items()},
        "log_loss_fold_mean": float(means.log_loss.mean()),
        "log_loss_fold_std": float(means.log_loss.std(ddof=1)),
    }


def cost(summaries: list[dict], predictions: pd.DataFrame) -> dict[str, float]:
    """What training took over all folds, and what truncation took from the battles."""
    tokens = sum(s["tokens_seen"] for s in summaries)
    seconds = sum(s["train_seconds"] for s in summaries)
    dropped = predictions.tokens_dropped
    return {
        "tokens_seen": tokens,
        "train_seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "peak_memory_gib": max(s["peak_memory_gib"] for s in summaries),
        "truncated_share": float((dropped > 0).mean()),
        "tokens_dropped_share": float(dropped.sum() / (predictions.tokens + dropped).sum()),
    }
