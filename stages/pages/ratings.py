"""The page of ratings: each model's, by votes and by predictions, and what style is worth."""

from functools import partial
from pathlib import Path

import altair as alt
import pandas as pd

from stages.pages import charts, tables
from stages.pages.charts import RUN_COLOURS, Figure
from stages.pages.page import render
from stages.ranking.ratings import TITLES
from stages.ranking.words import headline, interval, sentences

SCATTER = 480  # width at most
NAMED = 6  # models that are listed below it: those that differ most


def write_ratings(document: dict, place: str, predictions: str | None, path: Path) -> None:
    """Write the page.

    Args:
        document: what metrics/ratings.json holds.
        place: where the votes are from.
        predictions: the run or file that predicted them, if one did.
    """
    first = [row for row in document["models"] if row["votes"]["rank"] == 1]
    shown = [name for name in TITLES if name in document["models"][0]]
    render(
        path,
        "ratings.html",
        title=f"Ratings of {len(document['models'])} models",
        facts=f"{place} · predictions: {predictions}" if predictions else place,
        status="better" if len(first) == 1 else "undecided",
        heading=headline(document),
        sentences=sentences(document),
        titles={name: TITLES[name] for name in shown},
        figures={name: _forest(document, name) for name in shown},
        scatter=_scatter(document) if predictions else None,
        differing=_differing(document) if predictions else [],
        effects={name: _effects(found, name) for name, found in document["style"].items() if found},
        document=document,
    )


def _forest(document: dict, name: str) -> Figure:
    """Models by one of their ratings, the highest first."""
    rows = sorted(document["models"], key=lambda row: -row[name]["rating"])
    table = pd.DataFrame(
        {
            "label": row["model"],
            "run": _colour(name),
            "value": row[name]["rating"],
            "low": row[name]["low"],
            "high": row[name]["high"],
        }
        for row in rows
    )
    words = "; ".join(f"{row['model']}: {interval(row[name]).strip()}" for row in rows)
    draw = partial(
        charts.forest, table, axis="rating", form=".0f", reference=document["anchor"]["mean"]
    )
    return Figure(f"Ratings {TITLES[name]}", words, draw)


def _effects(found: dict[str, dict[str, float]], name: str) -> Figure:
    """What a standard deviation more of each feature of style is worth."""
    labels = [feature.replace("_", " ").replace("chars", "characters") for feature in found]
    table = pd.DataFrame(list(found.values())).rename(columns={"points": "value"})
    table = table.assign(label=labels, run=_colour(name))
    words = "; ".join(
        f"{row.label}: {tables.interval(row.value, row.low, row.high, '+.0f')}"
        for row in table.itertuples()
    )
    draw = partial(charts.forest, table, axis="points for a standard deviation", form="+.0f")
    return Figure(f"Points for style, {TITLES[name]}", words, draw)


def _colour(name: str) -> int:
    """Of a rating: that of votes, or that of predictions."""
    return list(TITLES).index(name) // 2


def _differing(document: dict) -> list[dict]:
    """The models that predictions place farthest from where votes do, by rating order."""
    order = {
        name: sorted(document["models"], key=lambda row: -row[name]["rating"])
        for name in ("votes", "predicted")
    }
    rows = [
        {"model": row["model"], **{name: rows.index(row) + 1 for name, rows in order.items()}}
        for row in document["models"]
    ]
    return sorted(rows, key=lambda row: -abs(row["votes"] - row["predicted"]))[:NAMED]


def _scatter(document: dict) -> Figure:
    """Ratings from predictions against those from votes."""
    table = pd.DataFrame(
        {
            "model": row["model"],
            "voted": row["votes"]["rating"],
            "predicted": row["predicted"]["rating"],
        }
        for row in document["models"]
    )
    told = [f"{row.model}: {row.voted:.0f} and {row.predicted:.0f}" for row in table.itertuples()]
    title = "Ratings from votes and from predictions"
    return Figure(title, "; ".join(told), partial(against, table))


def against(table: pd.DataFrame, width: int) -> alt.TopLevelMixin:
    """A point a model: voted and predicted."""
    points = alt.Chart(table).mark_point(filled=True, size=75, opacity=0.8, color=RUN_COLOURS[0])
    scale = alt.Scale(zero=False, padding=12)
    x = alt.X("voted:Q", title="rating from votes", scale=scale)
    y = alt.Y("predicted:Q", title="rating from predictions", scale=scale)
    return charts.fitted(alt.layer(points.encode(x, y)), min(width, SCATTER), 360)
