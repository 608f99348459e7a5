"""The page of a plan: its hours, its memory, what the comparison could find, and the tables."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import altair as alt
import pandas as pd

from stages.pages import charts
from stages.pages.charts import BASELINE_COLOUR, INK, RUN_COLOURS, SIZE, Figure
from stages.pages.page import render
from stages.planning.power import WANTED
from stages.planning.words import cases, opening, tables, unknown

PARTS = {  # of the memory, from the left
    "matrices": "layers' matrices",
    "other_weights": "other weights",
    "adapter": "adapter",
    "optimiser": "optimiser",
    "activations": "activations",
}


def write_plan(plan: dict, path: Path) -> None:
    """Write the page.

    Args:
        plan: what metrics/plan.json holds.
    """
    stops = plan["stops"]
    render(
        path,
        "planning.html",
        title=f"A plan for {' and '.join(each['checkpoint'] for each in plan['backbones'])}",
        facts=opening(plan),
        status="no" if stops else "undecided" if plan["unknown"] else "yes",
        heading="It would not run" if stops else "Nothing is known that would stop it",
        sentences=[*stops, *unknown(plan)],
        tables=[
            replace(table, rows=[[_unbroken(cell) for cell in row] for row in table.rows])
            for table in tables(plan)
        ],
        figures=_figures(plan),
    )


def _unbroken(cell: str) -> str:
    """A cell whose durations are not broken between a number and its unit."""
    return re.sub(r"(\d) (h|min|s)\b", "\\1\N{NO-BREAK SPACE}\\2", cell)


def _figures(plan: dict) -> dict[str, Figure]:
    """By the table that they stand above."""
    known = [each for each in plan["backbones"] if each["time"]]
    found = {"power": _power(plan)}
    if known:
        found |= {"hours": _hours(known), "memory": _memory(known)}
    return found


def _hours(backbones: list[dict]) -> Figure:
    table = pd.DataFrame(
        {
            "label": each["checkpoint"],
            "run": place,
            "value": each["time"]["total"],
            "low": each["time"]["low"],
            "high": each["time"]["high"],
        }
        for place, each in enumerate(backbones)
    )
    unit = "hours"
    if table.high.max() < 2:
        table[["value", "low", "high"]] *= 60
        unit = "minutes"
    words = "; ".join(
        f"{row.label}: {row.low:.1f} to {row.high:.1f} {unit}" for row in table.itertuples()
    )
    return Figure("Time", words, partial(charts.forest, table, axis=unit, form=".1f"))


def _memory(backbones: list[dict]) -> Figure:
    table = pd.DataFrame(
        {
            "backbone": each["checkpoint"].rpartition("/")[2],
            "part": words,
            "order": place,
            "gib": each["memory"][part],
        }
        for each in backbones
        for place, (part, words) in enumerate(PARTS.items())
    )
    words = "; ".join(
        f"{each['checkpoint']}: {each['memory']['peak']:.1f} GiB" for each in backbones
    )
    limit = backbones[0]["memory"]["limit"]
    return Figure("Memory", words, partial(bars, table, limit))


def bars(table: pd.DataFrame, limit: float, width: int) -> alt.TopLevelMixin:
    """Memory by its parts, one bar a backbone, with the device's limit as a dashed line.

    Args:
        table: backbone, part, order and gib.
    """
    colours = [*RUN_COLOURS[1:5], RUN_COLOURS[0]]
    scale = alt.Scale(domain=list(PARTS.values()), range=colours)
    bar = alt.Chart(table).encode(
        alt.X("gib:Q", title="GiB", stack="zero"),
        alt.Y("backbone:N", title=None, sort=None, axis=_names(table.backbone, width)),
        alt.Color("part:N", scale=scale, sort=None, legend=_legend(width)),
        alt.Order("order:Q"),
    )
    at = alt.Chart(pd.DataFrame({"gib": [limit], "text": [f"{limit:.1f} GiB to plan with"]}))
    layers = [
        bar.mark_bar(height=22),
        at.mark_rule(color=INK, opacity=0.7, strokeDash=[4, 4]).encode(alt.X("gib:Q")),
        at.mark_text(color=INK, fontSize=SIZE, align="right", dx=-6, y=8).encode(
            alt.X("gib:Q"), text="text:N"
        ),
    ]
    height = 190 + 44 * table.backbone.nunique()
    return charts.fitted(alt.layer(*layers), width, height)


def _names(backbones: pd.Series, width: int) -> alt.Axis:
    """Room for the names, since a browser's letters may be wider than was reckoned with."""
    most = width * 0.4
    return alt.Axis(labelLimit=most, minExtent=min(backbones.str.len().max() * 7, most))


def _legend(width: int) -> alt.Legend:
    return alt.Legend(title=None, columns=5 if width > 500 else 2, columnPadding=28)


def _power(plan: dict) -> Figure:
    table = pd.DataFrame(
        {"difference": each["difference"], "chance": each[case], "case": words}
        for each in plan["power"]["chances"]
        for case, words in cases(plan).items()
    )
    words = "; ".join(
        f"{row.difference:g}, {row.case}: {row.chance:.0%}" for row in table.itertuples()
    )
    return Figure("Chance to find a difference", words, partial(curves, table))


def curves(table: pd.DataFrame, width: int) -> alt.TopLevelMixin:
    """The chance to find a difference, by its size: difference, chance and case."""
    named = list(table.case.unique())
    scale = alt.Scale(domain=named, range=[RUN_COLOURS[2], BASELINE_COLOUR])
    dashes = alt.Scale(domain=named, range=[[1, 0], [7, 5]])
    lines = alt.Chart(table).encode(
        alt.X(
            "difference:Q",
            title="true difference of log loss",
            scale=alt.Scale(type="log", nice=False, padding=12),
            axis=alt.Axis(values=sorted(set(table.difference)), format="~g"),
        ),
        alt.Y(
            "chance:Q",
            title="called better",
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format=".0%"),
        ),
        alt.Color("case:N", scale=scale, title=None),
        alt.StrokeDash("case:N", scale=dashes, title=None),
    )
    wanted = alt.Chart(pd.DataFrame({"chance": [WANTED]})).encode(alt.Y("chance:Q"))
    layers = [
        wanted.mark_rule(color=INK, opacity=0.7, strokeDash=[4, 4]),
        lines.mark_line(strokeWidth=2.5),
        lines.mark_point(filled=True, size=70, opacity=1),
    ]
    return charts.fitted(alt.layer(*layers), width, 320)
