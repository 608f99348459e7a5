"""The charts: from plain frames to static SVG.

All but the data is drawn in currentColor, so that a page's theme colours it. Data colours are told
apart by the colour-blind (after Okabe and Ito 2008).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from stages.pages.tables import CLASSES, interval, sign

WIDE, NARROW = 760, 328  # pixels: a desktop's column, and a phone of 360 px less its margins
ROOM = 520  # where there is less, a label stands above its mark
INK = "currentColor"
# A page defines these variables to suit its theme; where none does, middle tones hold for both.
MIDDLE_TONES = ("#3b8fd0", "#e0742a", "#1f9e77", "#c0699f", "#a58431", "#7d78d8")
RUN_COLOURS = tuple(f"var(--run-{i}, {tone})" for i, tone in enumerate(MIDDLE_TONES))
BASELINE_COLOUR = "var(--baseline, #7d8590)"
# An image file knows nothing of the page around it: this grey is read on white and on near-black.
FILE_INK = "#767c85"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
SIZE = 12.5  # of text
CHARACTER = 6.6  # mean width at that size
LINE = 15  # height
LEGEND_LINE = 18  # height of one run


@dataclass(frozen=True)
class Figure:
    """A chart that can be drawn at any width, and its words for those who do not see it."""

    title: str
    description: str
    draw: Callable[[int], alt.TopLevelMixin]

    def svg(self, width: int) -> Markup:
        """An <svg> element that scales with its box."""
        buffer = StringIO()
        self.draw(width).save(buffer, format="svg")
        words = f"<title>{escape(self.title)}</title><desc>{escape(self.description)}</desc>"
        head = f'<svg role="img" aria-label="{escape(self.title)}" color="{FILE_INK}"'
        drawn = buffer.getvalue().replace("<svg", head, 1)
        return Markup(re.sub("<svg[^>]*>", lambda tag: tag[0] + words, drawn, count=1))

    def write(self, path: Path) -> None:
        """Write the wide form as a file for documents, light or dark."""
        drawn = re.sub(r"var\([\w-]+, (#\w+)\)", r"\1", self.svg(WIDE))
        path.write_text(drawn, encoding="utf-8")


def colour(run: float | None) -> str:
    """A run's colour; a grey for what belongs to no run."""
    if run is None or pd.isna(run):
        return BASELINE_COLOUR
    return RUN_COLOURS[int(run) % len(RUN_COLOURS)]


# Values with intervals, one below the other


def forest(
    table: pd.DataFrame,
    width: int,
    axis: str,
    form: str = "+.4f",
    reference: float = 0.0,
    band: float = 0.0,
) -> alt.TopLevelMixin:
    """Points with intervals; labels on the left, numbers on the right.

    Args:
        table: label (all of as many lines), run (for the colour), value, low, high; a row without
            value is a heading.
        axis: title of the x axis.
        form: of the numbers, as for format().
        reference: where the dashed line stands.
        band: half the width of the shaded band around it.
    """
    above = width < ROOM
    lines = table.label.str.count("\n").max() + 1
    longest = table.label.str.split("\n").explode().str.len().max()
    rows = _placed(table, form, above, lines)
    left = 12 if above else 36 + CHARACTER * min(longest, 40)  # short ones may be of wide letters
    number = 16 + CHARACTER * rows.text.str.len().max()
    right = 12 if above else number
    limit = 0.94 * (width - number) if above else left - 8  # a browser's font may be wider
    plot, height = width - left - right, rows.bottom.max()
    x = alt.Scale(domain=_domain(table, reference, band), nice=False, zero=False)
    y = alt.Scale(domain=[height, 0], nice=False)
    base = alt.Chart(rows).encode(alt.Y("y:Q", axis=None, scale=y))
    values, headings = (base.transform_filter(f"{no}isValid(datum.value)") for no in ("", "!"))
    marks = values.encode(
        alt.X("value:Q", scale=x, title=axis), color=alt.Color("colour:N", scale=None)
    )
    layers = [
        *_references(rows.dropna(subset="value") if above else rows, reference, band, x, y),
        marks.mark_rule(strokeWidth=2.5, opacity=0.75).encode(alt.X("low:Q"), alt.X2("high:Q")),
        marks.mark_point(filled=True, size=75, opacity=1),
        *_words(headings, values, left, plot, right, limit, lines),
    ]
    padding = {"left": left, "right": right, "top": 4, "bottom": 44}
    chart = alt.layer(*layers).properties(width=plot, height=height, padding=padding)
    return _styled(chart.properties(autosize="none"))


def _words(
    headings: alt.Chart,
    values: alt.Chart,
    left: float,
    plot: float,
    right: float,
    limit: float,
    lines: int,
) -> list[alt.Chart]:
    """Labels from the left edge, headings in bold, and numbers at the right edge.

    Args:
        limit: how wide a label may be: more than `left` where labels stand above their marks.
    """
    above = limit > left
    style = {"color": INK, "fontSize": SIZE, "baseline": "middle", "lineHeight": LINE}
    rise = 19 + LINE * (lines - 1) if above else LINE / 2 * (lines - 1)
    label = {**style, "align": "left", "x": -left, "lineBreak": "\n", "dy": -rise}
    label["limit"] = limit
    number = {**style, "align": "right", "x": plot + right, "dy": -19 if above else 0}
    return [
        headings.mark_text(**label, fontWeight="bold").encode(text="label:N"),
        values.mark_text(**label).encode(text="label:N"),
        values.mark_text(**number).encode(text="text:N"),
    ]


def _placed(table: pd.DataFrame, form: str, above: bool, lines: int) -> pd.DataFrame:
    """The rows with their places from the top, their colours and their numbers as text."""
    step, below = (40 + LINE * (lines - 1), 11) if above else (26 + LINE * (lines - 1), 13)
    heading = above & table.value.isna()
    steps = np.where(heading, 32, step)
    ends = steps.cumsum()
    y = ends - np.where(heading, 0, below)
    numbers = zip(table.value, table.low, table.high, strict=True)
    return table.assign(
        y=y,
        top=y - 9 if above else ends - steps,
        bottom=ends,
        colour=table.run.map(colour),
        text=[_told(*row, form, with_interval=not above) for row in numbers],
    )


def _told(value: float, low: float, high: float, form: str, with_interval: bool) -> str:
    if pd.isna(value):
        return ""
    return interval(value, low, high, form) if with_interval else sign(value, form)


def _domain(table: pd.DataFrame, reference: float, band: float) -> list[float]:
    low = min(table.low.min(), reference - band)
    high = max(table.high.max(), reference + band)
    margin = 0.04 * (high - low) or 0.01
    return [low - margin, high + margin]


def _references(
    rows: pd.DataFrame, reference: float, band: float, x: alt.Scale, y: alt.Scale
) -> list[alt.Chart]:
    """The dashed line and the band, beside each row's mark: they spare the labels above it."""
    at = alt.Chart(rows.assign(at=reference, first=reference - band, last=reference + band)).encode(
        alt.Y("top:Q", axis=None, scale=y), alt.Y2("bottom:Q")
    )
    line = at.mark_rule(color=INK, opacity=0.7, strokeDash=[4, 4])
    shade = at.mark_rect(color=INK, opacity=0.1)
    shades = [shade.encode(alt.X("first:Q", scale=x), alt.X2("last:Q"))] if band else []
    return [*shades, line.encode(alt.X("at:Q", scale=x))]


# Curves


def curves(
    table: pd.DataFrame, names: list[str], to_beat: dict[str, float], width: int
) -> alt.TopLevelMixin:
    """Training and validation loss by epoch.

    Args:
        table: run, kind, x, y, as stages.pages.tables.curves gives it.
        names: of the runs.
        to_beat: log losses of the references by what is written at them: dashed lines.
    """
    # An `sft` run starts at a loss over the whole vocabulary: the first tenth may leave the chart.
    late = table[(table.kind == "validation") | (table.x > table.x.max() / 10)]
    ends = [min(table.y.min(), *to_beat.values()), max(late.y.max(), *to_beat.values())]
    y = alt.Scale(domain=ends, zero=False, padding=8)
    lines = alt.Chart(_named(table, names)).encode(
        alt.X("x:Q", title="epoch", scale=alt.Scale(nice=False)),
        alt.Y("y:Q", title="log loss in one order (thin: training)", scale=y),
        _runs(names),
    )
    training = lines.transform_filter("datum.kind == 'training'")
    validation = lines.transform_filter("datum.kind == 'validation'")
    told = pd.DataFrame({"y": to_beat.values(), "text": to_beat.keys()})
    last = table[table.kind == "validation"].groupby("run").y.last()
    away = 10 if last.min() > max(to_beat.values()) else -8  # from where the curves end
    reference = alt.Chart(told).encode(y="y:Q")
    layers = [
        reference.mark_rule(color=INK, opacity=0.7, strokeDash=[4, 4]),
        training.mark_line(strokeWidth=1.2, opacity=0.65, clip=True),
        validation.mark_line(strokeWidth=3),
        validation.mark_point(filled=True, size=70, opacity=1),
        reference.mark_text(align="right", x="width", dy=away, color=INK, fontSize=SIZE).encode(
            text="text:N"
        ),
    ]
    return fitted(alt.layer(*layers), width, 274 + LEGEND_LINE * len(names))


def reliability(table: pd.DataFrame, names: list[str], width: int) -> alt.TopLevelMixin:
    """Observed shares against predicted probabilities: run, predicted, observed, low, high."""
    most = max(table.predicted.max(), table.high.max()) * 1.03
    scale = alt.Scale(domain=[0, most], nice=False)
    diagonal = alt.Chart(pd.DataFrame({"at": [0, most]})).mark_line(
        color=INK, opacity=0.7, strokeDash=[4, 4], strokeWidth=1
    )
    points = alt.Chart(_named(table, names)).encode(
        alt.X("predicted:Q", title="predicted probability", scale=scale), _runs(names)
    )
    observed = alt.Y("observed:Q", title="observed share", scale=scale)
    layers = [
        diagonal.encode(alt.X("at:Q", scale=scale), alt.Y("at:Q", scale=scale)),
        points.mark_rule(opacity=0.5, strokeWidth=2).encode(
            alt.Y("low:Q", scale=scale), alt.Y2("high:Q")
        ),
        points.mark_line(strokeWidth=1.5, opacity=0.8).encode(observed),
        points.mark_point(filled=True, size=50, opacity=1).encode(observed),
    ]
    return fitted(alt.layer(*layers), min(width, 480), 360)


def confusion(table: pd.DataFrame, run: int, width: int) -> alt.TopLevelMixin:
    """Shares of each actual class's rows by predicted class: actual, predicted, rows, share."""
    cells = alt.Chart(table.assign(text=[f"{s:.0%}" for s in table.share])).encode(
        alt.X("predicted:N", title="predicted", sort=CLASSES, axis=alt.Axis(labelAngle=0)),
        alt.Y("actual:N", title="vote", sort=CLASSES),
    )
    layers = [
        cells.mark_rect(color=colour(run), cornerRadius=3).encode(
            alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 0.85]), legend=None)
        ),
        cells.mark_text(color=INK, fontSize=15, dy=-7).encode(text="text:N"),
        cells.mark_text(color=INK, fontSize=11, opacity=0.8, dy=11).encode(
            text=alt.Text("rows:Q", format=",")
        ),
    ]
    return fitted(alt.layer(*layers), min(width, NARROW), 250)


# Shape and style


def _named(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    return table.assign(name=[names[run] for run in table.run])


def _runs(names: list[str]) -> alt.Color:
    scale = alt.Scale(domain=names, range=[colour(run) for run in range(len(names))])
    return alt.Color("name:N", scale=scale, title=None)


def fitted(chart: alt.LayerChart, width: int, height: int) -> alt.TopLevelMixin:
    """The chart with its axes and legend within a width and a height, in the page's style."""
    fit = alt.AutoSizeParams(type="fit", contains="padding")
    return _styled(chart.properties(width=width, height=height, autosize=fit, padding=4))


def _styled(chart: alt.LayerChart) -> alt.TopLevelMixin:
    return (
        chart.configure(background="transparent", font=FONT, aria=False)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=INK,
            titleColor=INK,
            titleFontWeight="normal",
            labelFontSize=SIZE - 1,
            titleFontSize=SIZE,
            gridColor=INK,
            gridOpacity=0.13,
            domain=False,
            ticks=False,
            labelPadding=6,
            titlePadding=8,
            tickCount=5,
        )
        .configure_legend(
            orient="top",
            columns=1,
            labelColor=INK,
            labelFontSize=SIZE,
            labelLimit=300,
            symbolOpacity=1,
            rowPadding=4,
        )
    )
