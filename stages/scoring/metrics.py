"""The metrics of a run, as metrics/metrics.json holds them.

A new one is a function in stages.scoring.scores and a line in `quality`.
"""

import numpy as np
import pandas as pd

from stages.config.params import Evaluate
from stages.scoring import scores
from stages.scoring.baselines import TITLES
from stages.scoring.bootstrap import ENDS, paired_cluster_bootstrap
from stages.scoring.learning import beyond_baseline, learned, reference


def evaluate(
    rows: pd.DataFrame,
    probabilities: dict[str, np.ndarray],
    settings: Evaluate,
    seed: int,
    offset: bool = False,
) -> tuple[dict, dict]:
    """All metrics but what training cost.

    Args:
        rows: label, group and fold of the battles; the probabilities are in the same order.
        probabilities: as stages.scoring.out_of_fold.all_probabilities gives them.
        offset: whether the backbone was trained with one.

    Returns:
        The metrics, and the ladder: the rungs of each baseline and of `backbone`.
    """
    labels, groups, folds = (rows[name].to_numpy() for name in ("label", "group", "fold"))
    ab, ba, prior, calibrated = (probabilities[name] for name in ("ab", "ba", "prior", "by_rule"))
    climbing = {name: probabilities[name] for name in (*TITLES, "backbone")}
    ladder = rungs(labels, climbing, groups, settings, seed)
    found = intervals(gains(labels, probabilities), groups, settings, seed)
    found |= {f"gain_over_prior{end}": ladder["backbone"][f"gain_over_prior{end}"] for end in ENDS}
    start = reference(offset)
    low, high = (found[f"gain_over_{start}{end}"] for end in ("_low", "_high"))
    metrics = {
        **quality(labels, ab, ba),
        "prior_log_loss": ladder["prior"]["log_loss"],
        **found,
        "log_loss_calibrated": scores.log_loss(labels, calibrated),
        "ece_calibrated": scores.ece(labels, calibrated),
        "learned": learned(low, high, settings.equivalence),
        "reference": start,
        "n_rows": len(rows),
        **by_fold(labels, ab, ba, prior, folds),
        "baselines": {name: ladder[name]["log_loss"] for name in TITLES},
    }
    return metrics, ladder


def quality(labels: np.ndarray, ab: np.ndarray, ba: np.ndarray) -> dict:
    """Scores of the two orders' probabilities (n, 3), averaged unless the name says single."""
    averaged = (ab + ba) / 2
    return {
        "log_loss": scores.log_loss(labels, averaged),
        "log_loss_single": scores.log_loss(labels, ab),
        "accuracy": scores.accuracy(labels, averaged),
        "macro_f1": scores.macro_f1(labels, averaged),
        "brier": scores.brier(labels, averaged),
        "ece": scores.ece(labels, averaged),
        "log_loss_by_class": scores.log_loss_by_class(labels, averaged),
        "order_consistency": scores.order_consistency(ab, ba),
    }


def gains(labels: np.ndarray, probabilities: dict[str, np.ndarray]) -> pd.DataFrame:
    """What the backbone gains in log loss, row by row, on what; a column a gain."""
    losses = {name: scores.example_losses(labels, p) for name, p in probabilities.items()}
    beyond = beyond_baseline(losses["counts"], losses["features"], losses["with_features"])
    return pd.DataFrame(
        {
            "gain_over_counts": losses["counts"] - losses["backbone"],
            "gain_beyond_features": beyond,
            "gain_of_calibration": losses["backbone"] - losses["calibrated"],
            "gain_of_rules": losses["calibrated"] - losses["by_rule"],
        }
    )


def intervals(
    values: pd.DataFrame, groups: np.ndarray, settings: Evaluate, seed: int
) -> dict[str, float]:
    """The mean of each column of per-row values, and its ends NAME_low and NAME_high."""
    interval = paired_cluster_bootstrap(
        values.to_numpy(), groups, settings.draws, settings.confidence, seed
    )
    return {
        f"{name}{end}": float(ends[column])
        for column, name in enumerate(values)
        for end, ends in zip(ENDS, interval, strict=True)
    }


def rungs(
    labels: np.ndarray,
    predictions: dict[str, np.ndarray],
    groups: np.ndarray,
    settings: Evaluate,
    seed: int,
) -> dict[str, dict[str, float]]:
    """The log loss of each prediction, its gain over the class prior with interval, and accuracy.

    Args:
        labels: (n,) 0 = A, 1 = B, 2 = tie.
        predictions: (n, 3) probabilities by name, `prior` among them.
        groups: (n,) prompt group of each row, the clusters of the bootstrap.
    """
    losses = {name: scores.example_losses(labels, p) for name, p in predictions.items()}
    over_prior = np.column_stack([losses["prior"] - loss for loss in losses.values()])
    gain = paired_cluster_bootstrap(over_prior, groups, settings.draws, settings.confidence, seed)
    return {
        name: {
            "log_loss": float(losses[name].mean()),
            "gain_over_prior": float(gain.mean[i]),
            "gain_over_prior_low": float(gain.low[i]),
            "gain_over_prior_high": float(gain.high[i]),
            "accuracy": scores.accuracy(labels, predictions[name]),
        }
        for i, name in enumerate(predictions)
    }


def by_fold(
    labels: np.ndarray, ab: np.ndarray, ba: np.ndarray, prior: np.ndarray, folds: np.ndarray
) -> dict:
    """Each fold's losses and accuracy, and mean and standard deviation of its log loss.

    Args:
        ab, ba, prior: (n, 3) probabilities of the backbone in both orders and of the class prior.
    """
    averaged = (ab + ba) / 2
    values = {
        "log_loss": scores.example_losses(labels, averaged),
        "log_loss_single": scores.example_losses(labels, ab),
        "prior_log_loss": scores.example_losses(labels, prior),
        "accuracy": averaged.argmax(axis=1) == labels,
    }
    means = pd.DataFrame(values).groupby(folds).mean()
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
