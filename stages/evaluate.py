"""Stage `evaluate`: out-of-fold metrics, whether the backbone learned, and plots."""

import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from stages.baselines import read_folded_battles, summary
from stages.config import paths
from stages.config.errors import UserError, stage
from stages.config.params import Evaluate, load
from stages.config.paths import (
    CALIBRATION,
    METRICS,
    OUT_OF_FOLD,
    PLOTS,
    PREDICTIONS,
    PROVENANCE,
    SUMMARIES,
)
from stages.counting.features import script
from stages.counting.regression import all_classes_seen, group_folds, out_of_fold
from stages.scoring import calibration, scores
from stages.scoring.bootstrap import paired_cluster_bootstrap
from stages.votes.battles import TURNS
from stages.votes.labels import LABELS, from_logits

ENDS = ("", "_low", "_high")
BASELINES = {  # and their titles
    "prior": "class prior",
    "length": "length",
    "counts": "length and format",
    "tfidf": "TF-IDF",
    "tfidf_counts": "TF-IDF, length, format",
}
# The baseline that a backbone has to beat to have learned, as sentences call it.
REFERENCES = {"prior": "class prior", "counts": "offset alone (length and format)"}
C_ODDS = 1.0  # the prior on the weight of a log odds has a standard deviation of 1
POOLED_FOLDS = 10  # within each fold


# Reading


def read_predictions(folds: pd.DataFrame, folder: Path = PREDICTIONS) -> pd.DataFrame:
    """Each row's logits by the model of its own fold.

    Args:
        folds: id and fold of every row.
        folder: of the files fold-K.parquet; those of other folds are left alone.

    Returns:
        The rows of `folds` in the same order: id, fold, tokens, tokens_dropped, ab_*, ba_*.

    Raises:
        UserError: a file is missing, a logit is not finite, or a row has no prediction or several.
    """
    parts = [_read_fold(folder, fold) for fold in sorted(folds.fold.unique())]
    found = pd.concat(parts, ignore_index=True).astype({"fold": folds.fold.dtype})
    _check_one_each(folds, found)
    return folds[["id", "fold"]].merge(found, on=["id", "fold"], validate="one_to_one")


def _read_fold(folder: Path, fold: int) -> pd.DataFrame:
    path = folder / f"fold-{fold}.parquet"
    if not path.exists():
        raise UserError(f"{path} not found: run `dvc repro`, which trains fold {fold}")
    rows = pd.read_parquet(path)
    logits = rows[[f"{order}_{label}" for order in ("ab", "ba") for label in LABELS]]
    broken = rows.id[~np.isfinite(logits).all(axis=1)]
    if len(broken):
        raise UserError(
            f"{path}: expected finite logits, found {_some(broken)} with NaN or infinite ones. "
            f"Lower the learning rate or set train.dtype to float32, then `dvc repro`"
        )
    return rows.assign(fold=fold)


def _check_one_each(folds: pd.DataFrame, found: pd.DataFrame) -> None:
    expected, keys = (pd.MultiIndex.from_frame(f[["id", "fold"]]) for f in (folds, found))
    problems = {
        "without a prediction": expected.difference(keys),
        "predicted more than once": keys[keys.duplicated()].unique(),
        "predicted by a fold that does not hold them": keys.difference(expected),
    }
    told = [
        f"{_some(rows.get_level_values(0))} {what}" for what, rows in problems.items() if len(rows)
    ]
    if told:
        wrong = sorted({int(fold) for rows in problems.values() for _, fold in rows})
        raise UserError(
            f"{PREDICTIONS}: expected one prediction for each of {len(folds)} rows, by the model "
            f"of its own fold, found {'; '.join(told)}. Train again what is out of date: "
            f"`dvc repro --force --single-item {' '.join(f'train@{fold}' for fold in wrong)}`"
        )


def _some(ids: pd.Index | pd.Series) -> str:
    shown = ", ".join(str(i) for i in ids[:5])
    return f"{len(ids)} row{'s'[: len(ids) > 1]} ({shown}{', …' if len(ids) > 5 else ''})"


def read_summaries(folds: list[int], folder: Path = SUMMARIES) -> list[dict]:
    """Each fold's fold-K.json.

    Raises:
        UserError: a file is missing, or the folds were trained from different checkpoints.
    """
    paths = [folder / f"fold-{fold}.json" for fold in folds]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UserError(f"{', '.join(missing)} not found: run `dvc repro`, which trains the folds")
    summaries = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    trained = {
        json.dumps([s["checkpoint"], s["objective"], s.get("offset", False)], sort_keys=True)
        for s in summaries
    }
    if len(trained) > 1:
        raise UserError(
            f"{folder}: expected one checkpoint, objective and offset in all folds, found "
            f"{'; '.join(sorted(trained))}. Run `dvc repro`, which trains the folds out of date"
        )
    return summaries


# Metrics


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


def reference(offset: bool) -> str:
    """The baseline that learning is measured from; by an offset alone nothing has been learned."""
    return "counts" if offset else "prior"


def learned(low: float, high: float, equivalence: float) -> str:
    """Whether an interval of the gain over the reference shows learning.

    Returns:
        `yes` if all of it is above 0, `no` if all of it is below `equivalence`, else `undecided`.
    """
    if low > 0:
        return "yes"
    return "no" if high < equivalence else "undecided"


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


def pooled(
    predictions: Sequence[np.ndarray], labels: np.ndarray, folds: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Probabilities (n, 3) of a regression on the log odds of one or more predictions.

    It is fitted and cross-validated within each fold. No label of a fold's rows has touched the
    predictions of these rows, but that of other folds' rows, by models trained on this fold, it
    has: a regression across folds finds it there, and gains 0.03 of log loss on shuffled votes
    where a hundred counts stand beside predictions made of them.

    Rows of a fold with too few votes for that keep the first prediction.

    Args:
        predictions: (n, 3) probabilities each, out of fold.
        groups: (n,) prompt group of each row.
    """
    odds = [log_odds(each) for each in predictions]
    ab = np.column_stack([column for winner, tie in odds for column in (winner, tie)])
    ba = np.column_stack([column for winner, tie in odds for column in (-winner, tie)])
    probabilities = np.empty_like(predictions[0])
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        both, inner = (ab[rows], ba[rows]), group_folds(groups[rows], POOLED_FOLDS)
        probabilities[rows] = (
            out_of_fold(lambda train, b=both: b, labels[rows], inner, C_ODDS)
            if all_classes_seen(labels[rows], inner)
            else predictions[0][rows]
        )
    return probabilities


def beyond_baseline(
    baseline: np.ndarray, pooled_alone: np.ndarray, with_backbone: np.ndarray
) -> np.ndarray:
    """The gain that a backbone brings to a baseline, for each row: (n,).

    Over the baseline as it is or pooled alone, whichever has the lower log loss: that pooling
    calibrates it, or with few votes worsens it, is no knowledge of the backbone's.

    Args:
        baseline, pooled_alone, with_backbone: log losses of the rows.
    """
    return min(baseline, pooled_alone, key=np.mean) - with_backbone


def log_odds(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of A against B, and of a tie against both, in nats: (n,) each."""
    a, b, tie = np.log(probabilities).T
    return a - b, tie - (a + b) / 2


def all_probabilities(
    battles: pd.DataFrame,
    ab: np.ndarray,
    ba: np.ndarray,
    baselines: dict[str, np.ndarray],
    settings: Evaluate,
) -> tuple[dict[str, np.ndarray], dict]:
    """Every out-of-fold prediction of the battles that is scored, by name.

    Args:
        battles: label, fold, group and the answers; all others are in the same order.
        ab, ba: (n, 3) probabilities of the backbone in both orders.
        baselines: the same of each baseline, by name.

    Returns:
        The baselines', `ab`, `ba`, their mean `backbone`, `features` and `with_features` (the
        `counts` baseline alone and with the backbone, as `pooled` has them), `calibrated`, and
        `by_rule` (calibration and rules); and the calibration of all rows, for new battles.
    """
    labels, folds = battles.label.to_numpy(), battles.fold.to_numpy()
    backbone = (ab + ba) / 2
    found = calibration.kinds(battles)
    cross = partial(calibration.out_of_fold, labels, backbone, found, folds, settings.calibration)
    pool = partial(pooled, labels=labels, folds=folds, groups=battles.group.to_numpy())
    probabilities = {
        **baselines,
        "ab": ab,
        "ba": ba,
        "backbone": backbone,
        "features": pool([baselines["counts"]]),
        "with_features": pool([baselines["counts"], backbone]),
        "calibrated": cross(rules=False),
        "by_rule": cross(rules=settings.rules),
    }
    fitted = calibration.fit_all(
        labels, backbone, found, settings.calibration, rules=settings.rules
    )
    return probabilities, fitted


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
        probabilities: as all_probabilities gives them.
        offset: whether the backbone was trained with one.

    Returns:
        The metrics, and the ladder: log loss, gain with interval and accuracy of each baseline
        and of `backbone`.
    """
    labels, groups, folds = (rows[name].to_numpy() for name in ("label", "group", "fold"))
    ab, ba, prior = (probabilities[name] for name in ("ab", "ba", "prior"))
    rungs = {name: probabilities[name] for name in (*BASELINES, "backbone")}
    ladder = summary(labels, rungs, groups, settings, seed)
    losses = {name: scores.example_losses(labels, p) for name, p in probabilities.items()}
    gains = pd.DataFrame(
        {
            "gain_over_counts": losses["counts"] - losses["backbone"],
            "gain_beyond_features": beyond_baseline(
                losses["counts"], losses["features"], losses["with_features"]
            ),
            "gain_of_calibration": losses["backbone"] - losses["calibrated"],
            "gain_of_rules": losses["calibrated"] - losses["by_rule"],
        }
    )
    found = intervals(gains, groups, settings, seed)
    found |= {f"gain_over_prior{end}": ladder["backbone"][f"gain_over_prior{end}"] for end in ENDS}
    start = reference(offset)
    ends = (found[f"gain_over_{start}{end}"] for end in ("_low", "_high"))
    metrics = {
        **quality(labels, ab, ba),
        "prior_log_loss": ladder["prior"]["log_loss"],
        **found,
        "log_loss_calibrated": scores.log_loss(labels, probabilities["by_rule"]),
        "ece_calibrated": scores.ece(labels, probabilities["by_rule"]),
        "learned": learned(*ends, settings.equivalence),
        "reference": start,
        "n_rows": len(rows),
        **by_fold(labels, ab, ba, prior, folds),
        "baselines": {name: ladder[name]["log_loss"] for name in BASELINES},
    }
    return metrics, ladder


def intervals(
    gains: pd.DataFrame, groups: np.ndarray, settings: Evaluate, seed: int
) -> dict[str, float]:
    """The mean of each column of per-row gains, and its ends NAME_low and NAME_high."""
    interval = paired_cluster_bootstrap(
        gains.to_numpy(), groups, settings.draws, settings.confidence, seed
    )
    return {
        f"{name}{end}": float(values[column])
        for column, name in enumerate(gains)
        for end, values in zip(ENDS, interval, strict=True)
    }


def order_probabilities(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 3) of the answers as stored, and exchanged and mapped back."""
    ab, ba = (
        from_logits(predictions[[f"{order}_{label}" for label in LABELS]].to_numpy())
        for order in ("ab", "ba")
    )
    return ab, ba


def out_of_fold_table(
    rows: pd.DataFrame, predictions: pd.DataFrame, probabilities: dict[str, np.ndarray]
) -> pd.DataFrame:
    """One table with all that comparing runs row by row needs, and no text of a vote.

    Args:
        rows: id, group, fold, label and prompt.
        predictions: tokens and tokens_dropped of the rows.
        probabilities: (n, 3) by name, which become the columns NAME_a, NAME_b and NAME_tie.
    """
    table = rows[["id", "group", "fold", "label"]].assign(
        turns=rows.prompt.map(len).astype("int32"),
        script=pd.array([script(turns[0]) for turns in rows.prompt], dtype="string"),
        tokens=predictions.tokens,
        tokens_dropped=predictions.tokens_dropped,
    )
    columns = {
        f"{name}_{label}": values[:, i]
        for name, values in probabilities.items()
        for i, label in enumerate(LABELS)
    }
    return table.assign(**columns)


# Plots


def mean_curve(curves: list[pd.DataFrame], x: str, y: str) -> pd.DataFrame:
    """The folds' mean of y at each x where any has measured it."""
    points = pd.concat(curves)[[x, y]].dropna().round({x: 3})
    return points.groupby(x, as_index=False).mean()


def write_plots(
    curves: list[pd.DataFrame],
    labels: np.ndarray,
    probabilities: np.ndarray,
    to_beat: float,
    start: float,
    folder: Path = PLOTS,
) -> None:
    """Write the CSV files that dvc.yaml's plots show.

    Args:
        to_beat: log loss of the reference.
        start: validation loss before training.
    """
    before = pd.DataFrame({"epoch": [0.0], "validation_loss": [start]})
    validation = pd.concat([before, mean_curve(curves, "epoch", "validation_loss")])
    tables = {
        "training_loss": mean_curve(curves, "step", "training_loss"),
        "validation_loss": validation.assign(to_beat=to_beat),
        "confusion": scores.confusion(labels, probabilities),
        "calibration": scores.calibration(labels, probabilities),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)


# Report


def report(metrics: dict, ladder: dict, name: str, confidence: float) -> str:
    """The ladder from the class prior to the backbone as a table, and what it means in words.

    Args:
        metrics, ladder: as evaluate gives them.
        name: of the checkpoint.
        confidence: of the intervals.
    """
    titles = BASELINES | {"backbone": name}
    width = max(map(len, titles.values())) + 2
    lines = [f"{'':{width}}log loss  accuracy  gain over prior, {100 * confidence:g} % interval"]
    for key, title in titles.items():
        row = ladder[key]
        gain = "" if key == "prior" else f"  {_interval(row, 'gain_over_prior')}"
        lines.append(f"{title:{width}}{row['log_loss']:8.4f}  {row['accuracy']:8.3f}{gain}")
    heading = f"{name}: {metrics['n_rows']} rows in {len(metrics['folds'])} folds, out of fold"
    return "\n".join([heading, "", *lines, "", verdict(metrics), beyond(metrics)])


def verdict(metrics: dict) -> str:
    """A sentence on whether the backbone learned and, if that is not shown, on what to do."""
    name = metrics["reference"]
    loss = f"log loss {metrics['log_loss']:.4f}"
    start = f"{REFERENCES[name]} {metrics['baselines'][name]:.4f}"
    gain = f"gain {_interval(metrics, f'gain_over_{name}')}"
    return {
        "yes": f"The backbone has learned: its {loss} is below the {start}, {gain}.",
        "no": f"The backbone has not learned: its {loss} is no better than the {start}, {gain}. "
        "It passed every gate, so it is able to learn: try more votes or epochs (`dvc exp run -S "
        "scale=sample`, or `rows` and `epochs` of this scale in params.yaml), then another "
        "learning rate (`lr` and `head_lr` of the backbone).",
        "undecided": f"Whether the backbone has learned is undecided: {loss}, the {start}, {gain}. "
        "More rows or epochs decide it: `dvc exp run -S scale=sample`, or more rows or epochs "
        "at this scale in params.yaml.",
    }[metrics["learned"]]


def beyond(metrics: dict) -> str:
    """A sentence on whether the backbone adds to length and format."""
    gain = _interval(metrics, "gain_beyond_features")
    if metrics["gain_beyond_features_low"] > 0:
        return f"It knows more than length and format: added to them it gains {gain}."
    return f"That it knows more than length and format is not shown: added to them it gains {gain}."


def _interval(row: dict, name: str) -> str:
    return f"{row[name]:+.4f} [{row[f'{name}_low']:+.4f}, {row[f'{name}_high']:+.4f}]"


@stage
def main() -> None:
    """Write metrics, plots, out-of-fold table, calibration and provenance; print the result."""
    params = load()
    rows = read_folded_battles(["label", *TURNS])
    predictions = read_predictions(rows)
    summaries = read_summaries(params.split.folds)
    curves = [pd.read_csv(SUMMARIES / f"fold-{fold}.csv") for fold in params.split.folds]
    table = rows[["id"]].merge(pd.read_parquet(paths.BASELINES), on="id", validate="one_to_one")
    baselines = {n: table[[f"{n}_{label}" for label in LABELS]].to_numpy() for n in BASELINES}

    ab, ba = order_probabilities(predictions)
    probabilities, fitted = all_probabilities(rows, ab, ba, baselines, params.evaluate)
    offset = summaries[0].get("offset", False)
    metrics, ladder = evaluate(rows, probabilities, params.evaluate, params.seed, offset)
    metrics |= cost(summaries, predictions)
    for path in (METRICS, OUT_OF_FOLD):
        path.parent.mkdir(parents=True, exist_ok=True)
    _write_json(METRICS, metrics)
    _write_json(CALIBRATION, fitted)
    _write_json(PROVENANCE, summaries)
    out_of_fold_table(rows, predictions, probabilities).to_parquet(OUT_OF_FOLD, index=False)
    labels, averaged = rows.label.to_numpy(), probabilities["backbone"]
    to_beat = metrics["baselines"][metrics["reference"]]
    # A zero head gives ln 3, as the gate first_loss has made sure, or the offset; a language model,
    # anything.
    start = to_beat if offset else math.log(len(LABELS))
    if summaries[0]["objective"] != "classify":
        start = math.nan
    write_plots(curves, labels, averaged, to_beat, start)
    name = summaries[0]["checkpoint"]["checkpoint"]
    print(report(metrics, ladder, name, params.evaluate.confidence))


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
