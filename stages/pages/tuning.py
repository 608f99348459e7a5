"""The page of a tuning: its trials by log loss, and each setting against it."""

from functools import partial
from pathlib import Path

import altair as alt
import pandas as pd

from stages.pages import charts
from stages.pages.charts import BASELINE_COLOUR, INK, RUN_COLOURS, SIZE, Figure
from stages.pages.page import render

COLOURS = {"complete": RUN_COLOURS[0], "stopped early": BASELINE_COLOUR}
VALUE_WIDTH = 480  # of the chart of a setting, at most


def write_tuning(trials: pd.DataFrame, summary: dict, sentences: list[str], path: Path) -> None:
    """Write the page.

    Args:
        trials: as stages.tuning.history.table gives them.
        summary: what metrics/tuning/MODEL.json holds.
        sentences: what follows from it.
    """
    best, prior = summary["best"], summary["inner_votes"]["prior_log_loss"]
    render(
        path,
        "tuning.html",
        title=f"Tuning of {summary['checkpoint']}",
        facts=f"scale {summary['scale']} · objective {summary['objective']}",
        status="yes" if best and best["log_loss"] < prior else "no",
        heading=f"Best: trial {best['trial']}" if best else "No trial is complete",
        sentences=sentences,
        summary=summary,
        figures=_figures(trials.dropna(subset="log_loss"), summary),
        trials=trials.to_dict("records"),
    )


def _figures(trials: pd.DataFrame, summary: dict) -> list[Figure]:
    """The trials one after another, then by each setting; none if no trial has a loss."""
    if trials.empty:
        return []
    prior, best = summary["inner_votes"]["prior_log_loss"], summary["best"]
    words = [f"trial {r.trial}: {r.log_loss:.4f}, {r.state}" for r in trials.itertuples()]
    words.append(f"class prior {prior:.4f}")
    shown = _placed(trials, prior)
    ends = (best["log_loss"], best["log_loss"] + best["standard_error"]) if best else None
    draw = partial(by_trial, shown, prior, ends)
    return [
        Figure("Log loss by trial", "; ".join(words), draw),
        *(_against(trials, shown, name, wanted) for name, wanted in summary["ranges"].items()),
    ]


def _placed(trials: pd.DataFrame, prior: float) -> pd.DataFrame:
    """Trials with the height of their marks, y: very high losses stand at the upper edge."""
    edge = 2 * max(prior, trials.log_loss.median()) - trials.log_loss.min()
    states = trials.state.replace("stopped", "stopped early")
    return trials.assign(y=trials.log_loss.clip(upper=edge), state=states)


def _against(trials: pd.DataFrame, shown: pd.DataFrame, name: str, wanted: dict) -> Figure:
    pairs = zip(trials[name], trials.log_loss, strict=True)
    words = "; ".join(f"{value}: {loss:.4f}" for value, loss in pairs)
    draw = partial(by_value, shown, name, wanted.get("log", False), wanted.get("choices"))
    return Figure(f"Log loss by {name}", words, draw)


def by_trial(
    trials: pd.DataFrame, prior: float, ends: tuple[float, float] | None, width: int
) -> alt.TopLevelMixin:
    """Each trial's log loss, with the best so far as a line and the class prior's dashed.

    Args:
        trials: trial, state and y.
        ends: of the shaded band, if there is one.
    """
    whole = alt.Axis(format="d", tickMinStep=1)
    x = alt.X("trial:Q", title="trial", axis=whole, scale=alt.Scale(nice=False, padding=12))
    y = alt.Y("y:Q", title="inner log loss", scale=alt.Scale(zero=False, padding=12))
    complete = trials[trials.state == "complete"]
    best = alt.Chart(complete.assign(y=complete.y.cummin()))
    rule = alt.Chart(pd.DataFrame({"y": [prior], "text": [f"class prior {prior:.4f}"]})).encode(y)
    layers = [
        rule.mark_rule(color=INK, opacity=0.7, strokeDash=[4, 4]),
        best.mark_line(interpolate="step-after", strokeWidth=2, color=RUN_COLOURS[0]).encode(x, y),
        _points(trials).encode(x, y),
        rule.mark_text(align="right", x="width", dy=-8, color=INK, fontSize=SIZE).encode(
            text="text:N"
        ),
    ]
    if ends:
        band = alt.Chart(pd.DataFrame([ends], columns=["y", "high"]))
        layers.insert(0, band.mark_rect(color=INK, opacity=0.1).encode(y, alt.Y2("high:Q")))
    return charts.fitted(alt.layer(*layers), width, 320)


def by_value(
    trials: pd.DataFrame, name: str, log: bool, choices: list | None, width: int
) -> alt.TopLevelMixin:
    """Each trial's log loss by its value of a setting: state, y, and the setting's own column."""
    table = trials[["state", "y"]].assign(value=trials[name])
    scale = alt.Scale(type="log" if log else "linear", zero=False, nice=False, padding=12)
    x = alt.X("value:Q", title=name, scale=scale, axis=alt.Axis(format="~g", labelSeparation=12))
    if choices:
        table["value"] = table.value.map(str)
        x = alt.X("value:N", title=name, sort=list(map(str, choices)), axis=alt.Axis(labelAngle=0))
    y = alt.Y("y:Q", title="inner log loss", scale=alt.Scale(zero=False, padding=12))
    return charts.fitted(alt.layer(_points(table).encode(x, y)), min(width, VALUE_WIDTH), 260)


def _points(trials: pd.DataFrame) -> alt.Chart:
    scale = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    marks = alt.Chart(trials).mark_point(filled=True, size=75, opacity=1)
    return marks.encode(alt.Color("state:N", scale=scale, title=None))
