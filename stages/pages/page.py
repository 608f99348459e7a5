"""The page: one HTML file without scripts that needs nothing but itself."""

from pathlib import Path

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from stages.pages import blends, charts, examples, facts, figures, tables
from stages.runs.finished import Result, titles
from stages.scoring.sentences import (
    what_blending_gains,
    whether_learned,
    whether_more_than_counts,
)

SHARED, OWN = 6, 4  # examples of disagreement, and of each run's surest predictions
PICTURES = ("ladder", "beyond", "loss_curves")
SECTIONS = {
    "ladder": "Ladder",
    "curves": "Loss curves",
    "calibration": "Calibration",
    "confusion": "Confusion",
    "order": "Order",
    "slices": "Slices",
    "gates": "Gates",
    "cost": "Cost",
    "examples": "Examples",
    "made": "How this was made",
}


def write_run(result: Result, texts: pd.DataFrame | None, path: Path) -> None:
    """Write the page of one run or blend.

    Args:
        texts: battles with id, prompt, response_a and response_b (lists of turns), for the
            examples; a page without them has none.
    """
    metrics = result.metrics
    render(
        path,
        "page.html",
        title=result.checkpoint,
        facts=_facts(result),
        status=metrics["learned"],
        heading=f"Learned: {metrics['learned']}",
        sentences=_sentences(result),
        members=blends.members(result),
        figures=figures.of_runs([result]) | figures.of_run(result),
        examples={} if texts is None else _examples(result, texts),
        **_runs([result]),
    )


def write_comparison(
    results: list[Result], comparison: dict, texts: pd.DataFrame | None, path: Path
) -> None:
    """Write the page that compares runs.

    Args:
        results: the runs.
        comparison: what stages.compare writes to metrics/comparison.json.
        texts: as write_run takes them.
    """
    labels = dict(zip((r.name for r in results), titles(results), strict=True))
    render(
        path,
        "page.html",
        title=" against ".join(labels.values()),
        facts=f"A comparison of {', '.join(labels)}",
        names=labels,
        status=comparison["verdict"],
        heading=comparison["verdict"].capitalize(),
        sentences=[comparison["sentence"], *comparison["look"]["sentences"]],
        comparison=comparison,
        figures=figures.of_runs(results) | figures.of_comparison(comparison, labels),
        pair_slices=figures.pair_slices(comparison, labels),
        examples={} if texts is None else _compared_examples(results, texts),
        **_runs(results),
    )


def write_pictures(results: list[Result], folder: Path) -> None:
    """Write the charts that documents show as NAME.svg, each read on light and on dark pages."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = figures.of_runs(results)
    for name in PICTURES:
        path = folder / f"{name}.svg"
        path.unlink(missing_ok=True)  # of a run that knew more
        if name in drawn:
            drawn[name].write(path)


def _examples(result: Result, texts: pd.DataFrame) -> dict[str, list[dict]]:
    kinds = {"The most confident errors": False, "The most confident hits": True}
    return {
        title: examples.most_confident([result], 0, texts, OWN, right=right)
        for title, right in kinds.items()
    }


def _compared_examples(results: list[Result], texts: pd.DataFrame) -> dict[str, list[dict]]:
    shown = {}
    if len({result.votes.classes for result in results}) == 1:
        apart = examples.disagreements(results, texts, SHARED)
        shown["Where the backbones disagree most"] = apart
    errors = {
        f"The most confident errors of {label}": examples.most_confident(
            results, run, texts, OWN, right=False
        )
        for run, label in enumerate(titles(results))
    }
    return shown | errors


def _sentences(result: Result) -> list[str]:
    metrics = result.metrics
    if result.members:
        return what_blending_gains(metrics)
    return [whether_learned(metrics), whether_more_than_counts(metrics)]


def _facts(result: Result) -> str:
    made = facts.made(result)
    votes = f"{made['rows']} votes in {made['folds']} folds, out of fold"
    trained = [f"scale {made['scale']}", f"objective {made['objective']}"]
    return " · ".join([votes, *trained, *result.given])


def _runs(results: list[Result]) -> dict:
    """What the template shows of each run."""
    return {
        "results": results,
        "confidence": f"{100 * results[0].params['evaluate']['confidence']:g} %",
        "sections": {
            name: title
            for name, title in SECTIONS.items()
            if name != "curves" or not all(result.members for result in results)
        },
        "labels": titles(results),
        "confusions": figures.confusions(results),
        "calibration": _side_by_side([tables.calibration(result) for result in results]),
        "order": _side_by_side([tables.order(result) for result in results]),
        "gates": [tables.gates(result) for result in results],
        "cost": _side_by_side([facts.cost(result) for result in results]),
        "made": _side_by_side([facts.made(result) for result in results]),
        "differing": facts.differing(results),
        "params": [
            (place, run.name if result.members else label, _as_yaml(run.params))
            for place, (result, label) in enumerate(zip(results, titles(results), strict=True))
            for run in result.runs
        ],
    }


def _as_yaml(params: dict) -> str:
    return yaml.safe_dump(facts.chosen(params), sort_keys=False)


def _side_by_side(columns: list[dict[str, str]]) -> dict[str, list[str]]:
    """Each key with its value of every run; — for a run that has none."""
    fullest = sorted(columns, key=len, reverse=True)  # whose order is kept
    keys = dict.fromkeys(key for column in fullest for key in column)
    return {key: [column.get(key, "—") for column in columns] for key in keys}


def render(path: Path, template: str, **content: object) -> None:
    """Write a page of a template."""
    environment = Environment(
        loader=PackageLoader("stages.pages", "template"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"sign": tables.sign, "minus": tables.minus}
    environment.globals |= {"colour": charts.colour, "WIDE": charts.WIDE, "NARROW": charts.NARROW}
    page = environment.get_template(template).render(**content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
