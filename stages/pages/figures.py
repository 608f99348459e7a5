"""The page's figures, drawn from runs and from a comparison."""

from functools import partial

import pandas as pd

from stages.pages import charts, tables
from stages.pages.charts import Figure
from stages.runs.finished import Result, titles

GAIN = "gain in log loss (right is better)"
DIFFERENCE = "difference in log loss (left: the first is better)"


def of_runs(results: list[Result]) -> dict[str, Figure]:
    """Every figure that shows one run or several together.

    `beyond` if that gain is known, `loss_curves` unless all are blends.
    """
    names = titles(results)
    to_beat = {f"{r.reference_title} {r.to_beat:.4f}": r.to_beat for r in results}
    figures = {
        "ladder": _forest(
            "Log loss of baselines and backbones",
            tables.rungs(results),
            axis="log loss, out of fold (left is better)",
            form=".4f",
            reference=results[0].metrics["prior_log_loss"],
        ),
        "calibration": _reliability(results, names),
    }
    if not all(result.members for result in results):
        curves = tables.curves(results)
        figures["loss_curves"] = Figure(
            "Training and validation loss by epoch",
            _curves_in_words(curves, names, to_beat),
            partial(charts.curves, curves, names, to_beat),
        )
    beyond = tables.gains(results, "gain_beyond_features").dropna(subset="value")
    if len(beyond):
        title = "What each backbone adds to length and format"
        band = results[0].params["evaluate"]["equivalence"]
        figures["beyond"] = _forest(title, beyond, axis=GAIN, band=band)
    return figures


def confusions(results: list[Result]) -> list[Figure]:
    """Each run's votes by predicted class."""
    return [
        _confusion(result, name, place)
        for place, (result, name) in enumerate(zip(results, titles(results), strict=True))
    ]


def of_run(result: Result) -> dict[str, Figure]:
    """What only a page of one run has: its gain in each slice, and what calibration gains."""
    steps = {"gain_of_calibration": "temperature and bias", "gain_of_rules": "rules for answers"}
    gains = [tables.gains([result], name).assign(label=told) for name, told in steps.items()]
    return {
        "slices": _forest(
            f"Gain over the {result.reference_title} by slice",
            sliced(tables.slices(result)),
            GAIN,
        ),
        "calibration_gains": _forest("Gain of calibration and rules", pd.concat(gains), GAIN),
    }


def of_comparison(comparison: dict, labels: dict[str, str]) -> dict[str, Figure]:
    """The differences between runs over all rows, if there are two to compare.

    Args:
        labels: how the runs are called, by their names.
    """
    pairs, delta = comparison["pairs"], comparison["delta"]
    if not pairs:
        return {}
    names = [_pair_name(pair, labels, "\n") for pair in pairs]
    table = pd.DataFrame([{**_ends(pair), "run": None} for pair in pairs]).assign(label=names)
    return {"differences": _forest("Differences in log loss", table, DIFFERENCE, band=delta)}


def pair_slices(comparison: dict, labels: dict[str, str]) -> list[Figure]:
    """The differences of each pair by class and by slice; labels as in of_comparison."""
    return [
        _forest(
            _pair_name(pair, labels, " "),
            sliced(_slices_of(pair)),
            DIFFERENCE,
            band=comparison["delta"],
        )
        for pair in comparison["pairs"]
        if pair["classes"] or pair["slices"]  # too few votes have none
    ]


def _pair_name(pair: dict, labels: dict[str, str], space: str) -> str:
    return f"{labels[pair['a']]}{space}− {labels[pair['b']]}"


def _slices_of(pair: dict) -> pd.DataFrame:
    votes = [
        {"slice": "vote", "label": {"a": "A", "b": "B"}.get(name, name), **_ends(row)}
        for name, row in pair["classes"].items()
    ]
    others = [
        {"slice": row["slice"], "label": str(row["value"]), **_ends(row)} for row in pair["slices"]
    ]
    return pd.DataFrame(votes + others).assign(run=None)


def _ends(row: dict) -> dict:
    found = {"value": row["difference"], "low": row["low"], "high": row["high"]}
    return found | ({"rows": row["rows"]} if "rows" in row else {})


def sliced(table: pd.DataFrame) -> pd.DataFrame:
    """A table of slices with a heading above each slicing's rows, and their numbers of rows."""
    parts = []
    for name, rows in table.groupby("slice", sort=False):
        parts.append(pd.DataFrame({"label": [name.replace("_", " ")], "run": [None]}))
        labels = [f"{row.label} ({row.rows:,})" for row in rows.itertuples()]
        parts.append(rows.assign(label=labels))
    return pd.concat(parts, ignore_index=True)


def _forest(
    title: str,
    table: pd.DataFrame,
    axis: str,
    form: str = "+.4f",
    reference: float = 0.0,
    band: float = 0.0,
) -> Figure:
    told = [
        f"{row.label}: {tables.interval(row.value, row.low, row.high, form)}"
        for row in table.dropna(subset="value").itertuples()
    ]
    draw = partial(charts.forest, table, axis=axis, form=form, reference=reference, band=band)
    return Figure(title, "; ".join(told), draw)


def _curves_in_words(table: pd.DataFrame, names: list[str], to_beat: dict[str, float]) -> str:
    last = table.groupby(["run", "kind"], sort=False).last().y
    told = [f"{names[run]}: last {kind} loss {loss:.4f}" for (run, kind), loss in last.items()]
    return "; ".join([*told, *to_beat])


def _reliability(results: list[Result], names: list[str]) -> Figure:
    """Of each backbone; of one, also after calibration."""
    if len(results) == 1:
        columns = {"as trained": "backbone", "calibrated, by rule": "by_rule"}
        series = [(name, results[0], column) for name, column in columns.items()]
    else:
        series = [(name, result, "backbone") for name, result in zip(names, results, strict=True)]
    parts = [
        tables.reliability(result.votes, result.probabilities(column))
        for _, result, column in series
    ]
    table = pd.concat([part.assign(run=place) for place, part in enumerate(parts)])
    shown = [name for name, *_ in series]
    words = "Observed shares by predicted probability, in bins of equal numbers."
    return Figure("Calibration", words, partial(charts.reliability, table, shown))


def _confusion(result: Result, name: str, place: int) -> Figure:
    table = tables.confusion(result)
    told = [f"{r.actual} predicted as {r.predicted}: {r.share:.0%}" for r in table.itertuples()]
    return Figure(name, "; ".join(told), partial(charts.confusion, table, place))
