"""The numbers behind the page, as plain frames and dicts."""

import re

import numpy as np
import pandas as pd

from stages.runs.finished import Result, titles
from stages.scoring import scores
from stages.scoring.baselines import TITLES
from stages.scoring.bootstrap import paired_cluster_bootstrap
from stages.scoring.plots import mean_curve
from stages.scoring.sentences import pooled_title
from stages.votes.labels import Votes

CLASSES = ("A", "B", "tie")
SLICE_DRAWS = 2000  # of the bootstrap of each slice
SLICE_ROWS = 20  # a slice of fewer rows says nothing
RELIABILITY_BINS = 10


def minus(text: str) -> str:
    """A text with true minuses before its numbers; hyphens within names stay."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def sign(value: float, form: str = "+.4f") -> str:
    """A number with a true minus."""
    return minus(f"{value:{form}}")


def interval(value: float, low: float, high: float, form: str = "+.4f") -> str:
    """A number and its interval; without one where it has no width."""
    ends = f" [{sign(low, form)}, {sign(high, form)}]" if high > low else ""
    return f"{sign(value, form)}{ends}"


# Losses


def rungs(results: list[Result]) -> pd.DataFrame:
    """The ladder of log losses, worst first: label, run (none for a baseline), value, low, high.

    The interval is the paired one of the gain over the class prior, seen from the prior. A baseline
    that runs share is one rung. The members of a blend stand beside it.
    """
    rows = []
    for place, (result, label) in enumerate(zip(results, titles(results), strict=True)):
        baselines = [(TITLES[name], found, None) for name, found in result.baselines.items()]
        learned = result.metrics["learned"]
        told = label if learned == "yes" else f"{label} (learned: {learned})"
        pooled = pooled_title(result.metrics, label)
        mine = [(told, result.metrics, place)]
        mine += [(title, result.metrics["pooled"], place) for title in pooled.values()]
        named = zip(titles(result.members), result.members, strict=True)
        mine += [(title, member.metrics, place) for title, member in named]
        for title, metrics, run in [*baselines, *mine]:
            rows.append({"label": title, "run": run, **_rung(metrics)})
    table = pd.DataFrame(rows).drop_duplicates(["label", "value"])
    return table.sort_values("value", ascending=False, kind="stable", ignore_index=True)


def _rung(metrics: dict) -> dict[str, float]:
    prior = metrics["log_loss"] + metrics["gain_over_prior"]
    return {
        "value": metrics["log_loss"],
        "low": prior - metrics["gain_over_prior_high"],
        "high": prior - metrics["gain_over_prior_low"],
    }


def gains(results: list[Result], name: str) -> pd.DataFrame:
    """One gain of every run's metrics with its interval: label, run, value, low, high.

    NaN where it is unknown.
    """
    return pd.DataFrame(
        {
            "label": label,
            "run": place,
            "value": result.metrics[name],
            "low": result.metrics[f"{name}_low"],
            "high": result.metrics[f"{name}_high"],
        }
        for place, (result, label) in enumerate(zip(results, titles(results), strict=True))
    ).astype({"value": float, "low": float, "high": float})


def curves(results: list[Result]) -> pd.DataFrame:
    """Loss by epoch of every run, mean over folds: run, kind (training or validation), x, y.

    Blends have none.
    """
    parts = []
    for place, result in enumerate(results):
        if result.members:
            continue
        training = mean_curve(result.curves, "step", "training_loss").set_index("step")
        training["x"] = mean_curve(result.curves, "step", "epoch").set_index("step").epoch
        validation = mean_curve(result.curves, "epoch", "validation_loss")
        for kind, curve in (
            ("training", training.rename(columns={"training_loss": "y"})),
            ("validation", validation.rename(columns={"epoch": "x", "validation_loss": "y"})),
        ):
            parts.append(curve[["x", "y"]].assign(run=place, kind=kind))
    return pd.concat(parts, ignore_index=True)


# Probabilities


def reliability(votes: Votes, probabilities: np.ndarray) -> pd.DataFrame:
    """How often what was given a probability came true: predicted, observed, low, high.

    Every class's probability counts, in bins of equal numbers; low and high are two standard errors
    of the share from it.
    """
    table = pd.DataFrame(
        {
            "predicted": probabilities.ravel(),
            "observed": votes.targets.ravel(),
            "weight": votes.weights.repeat(votes.classes),
        }
    )
    bins = _quantile_bins(table.predicted, RELIABILITY_BINS)
    sums = table.mul(table.weight, axis=0).assign(weight=table.weight).groupby(bins).sum()
    means = sums[["predicted", "observed"]].div(sums.weight, axis=0)
    counts = table.groupby(bins).size()
    error = 2 * np.sqrt(means.observed * (1 - means.observed) / counts)
    return means.assign(low=means.observed - error, high=means.observed + error)


def _quantile_bins(values: pd.Series, count: int) -> np.ndarray:
    """The bin of each value, of about equal numbers; equal values share one, so it may be fewer."""
    edges = np.unique(np.quantile(values, np.arange(1, count) / count))
    return np.searchsorted(edges, values)


def confusion(result: Result) -> pd.DataFrame:
    """Rows by actual and predicted class, and their share of the actual class's rows."""
    found = scores.confusion(result.votes, result.probabilities("backbone"))
    counts = pd.crosstab(found.actual, found.predicted)
    classes = CLASSES[: result.votes.classes]
    counts = counts.reindex(index=classes, columns=classes, fill_value=0)
    table = counts.stack().rename("rows").reset_index()
    return table.assign(share=table.rows / table.groupby("actual").rows.transform("sum"))


def calibration(result: Result) -> dict[str, str]:
    """Log loss and calibration error, before and after calibration and rules."""
    metrics = result.metrics
    return {
        "class prior": f"{metrics['prior_log_loss']:.4f}",
        "log loss": f"{metrics['log_loss']:.4f}",
        "after calibration and rules": f"{metrics['log_loss_calibrated']:.4f}",
        "calibration error": f"{metrics['ece']:.3f}",
        "after both": f"{metrics['ece_calibrated']:.3f}",
    }


def order(result: Result) -> dict[str, str]:
    """What changes when the answers are shown in the other order."""
    ab, ba = result.probabilities("ab"), result.probabilities("ba")
    return {
        "same class in both orders": f"{result.metrics['order_consistency']:.1%}",
        "probability of the answer shown first": f"{(ab[:, 0] + ba[:, 1]).mean() / 2:.1%}",
        "of the one shown second": f"{(ab[:, 1] + ba[:, 0]).mean() / 2:.1%}",
        "class prior": f"{result.metrics['prior_log_loss']:.4f}",
        "log loss in one order": f"{result.metrics['log_loss_single']:.4f}",
        "both averaged": f"{result.metrics['log_loss']:.4f}",
    }


# Slices


def slices(result: Result) -> pd.DataFrame:
    """The gain over the reference in each slice: slice, label, run, rows, value, low, high."""
    votes, groups = result.votes, result.rows.group.to_numpy()
    losses = [
        scores.example_losses(votes, result.probabilities(name))
        for name in (result.reference, "backbone")
    ]
    gain, settings = losses[0] - losses[1], result.params["evaluate"]
    table = []
    for name, values in _slice_columns(result.rows).items():
        for value in values.cat.categories:
            mask = (values == value).to_numpy()
            if mask.sum() < SLICE_ROWS:
                continue
            found = paired_cluster_bootstrap(
                gain[mask],
                groups[mask],
                SLICE_DRAWS,
                settings["confidence"],
                result.params["seed"],
                votes.weights[mask],
            )
            ends = dict(zip(("value", "low", "high"), found, strict=True))
            table.append({"slice": name, "label": value, "run": 0, "rows": mask.sum(), **ends})
    return pd.DataFrame(table)


def _slice_columns(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Each slicing's value of every row, as ordered categories."""
    columns = {
        "vote": rows.label.map(dict(enumerate(CLASSES))),
        "turns": (rows.turns > 1).map({False: "one", True: "several"}),
        "tokens": _quarters(rows.tokens + rows.tokens_dropped),
        "script": rows.script,
        "truncated": (rows.tokens_dropped > 0).map({False: "no", True: "yes"}),
        **{name: rows[name] for name in ("language", "source") if _several(rows, name)},
    }
    return {name: values.astype("category") for name, values in columns.items()}


def _several(rows: pd.DataFrame, name: str) -> bool:
    """Whether a column that older runs do not write has more than one value."""
    return name in rows and rows[name].nunique() > 1


def _quarters(values: pd.Series) -> pd.Series:
    """The quarter that each value is in, named by its ends, in order."""
    groups = values.groupby(_quantile_bins(values, 4))
    least, most = (groups.transform(end) for end in ("min", "max"))
    names = least.map("{:,}".format) + " to " + most.map("{:,}".format)
    return names.astype(pd.CategoricalDtype(names[least.sort_values().index].unique()))


# What was done


def gates(result: Result) -> list[dict]:
    """Each gate over all folds: name, passed, expected, and the values found, without repeats."""
    found: dict[str, list[dict]] = {}
    for fold in result.folds:
        for gate in fold["gates"]:
            found.setdefault(gate["name"], []).append(gate)
    return [
        {
            "name": name,
            "passed": all(gate["passed"] for gate in all_folds),
            "expected": all_folds[0]["expected"],
            "values": list(dict.fromkeys(gate["value"] for gate in all_folds)),
        }
        for name, all_folds in found.items()
    ]
