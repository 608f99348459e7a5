"""Battles worth reading, with their texts cut to a page's size."""

import numpy as np
import pandas as pd

from stages.pages.tables import CLASSES
from stages.runs.finished import Result, titles
from stages.votes.rows import TURNS

EXCERPT, LINES = 400, 10  # characters and lines of a text that show at once
WHOLE = 4000  # characters that show when it is opened
PART_TITLES = {"prompt": "Prompt", "response_a": "Answer A", "response_b": "Answer B"}


def disagreements(results: list[Result], texts: pd.DataFrame, count: int) -> list[dict]:
    """The battles on which the runs' probabilities lie farthest apart (half the sum of ranges)."""
    ids = _common_ids(results, texts)
    stacked = np.stack([_probabilities(result, ids) for result in results])
    apart = (stacked.max(axis=0) - stacked.min(axis=0)).sum(axis=1) / 2
    chosen = ids[np.argsort(-apart, kind="stable")[:count]]
    return _examples(results, list(range(len(results))), texts, chosen)


def most_confident(
    results: list[Result], run: int, texts: pd.DataFrame, count: int, right: bool
) -> list[dict]:
    """The battles of which one run was surest, and right or wrong.

    Args:
        run: its place in results.
    """
    ids = _common_ids([results[run]], texts)
    probabilities = _probabilities(results[run], ids)
    kept = (probabilities.argmax(axis=1) == _votes(results[run], ids)) == right
    order = np.argsort(-probabilities.max(axis=1)[kept], kind="stable")[:count]
    return _examples(results, [run], texts, ids[kept][order])


def _common_ids(results: list[Result], texts: pd.DataFrame) -> pd.Index:
    """The ids that all runs and the texts have, in the first run's order."""
    ids = pd.Index(results[0].rows.id)
    for others in (*(result.rows.id for result in results[1:]), texts.id):
        ids = ids[ids.isin(others)]
    return ids


def _places(result: Result, ids: pd.Index) -> np.ndarray:
    return pd.Index(result.rows.id).get_indexer(ids)


def _probabilities(result: Result, ids: pd.Index) -> np.ndarray:
    return result.probabilities("backbone")[_places(result, ids)]


def _votes(result: Result, ids: pd.Index) -> np.ndarray:
    return result.rows.label.to_numpy()[_places(result, ids)]


def _examples(
    results: list[Result], runs: list[int], texts: pd.DataFrame, ids: pd.Index
) -> list[dict]:
    """Battles with their texts and what some of the runs gave them."""
    names, votes = titles(results), _votes(results[runs[0]], ids)
    probabilities = {run: _probabilities(results[run], ids) for run in runs}
    battles = texts.set_index("id").loc[ids]
    return [
        {
            "id": row,
            "vote": CLASSES[votes[i]],
            "parts": _parts(battles.loc[row]),
            "runs": [
                {
                    "label": names[run],
                    "run": run,
                    "probabilities": dict(zip(CLASSES, p[i], strict=False)),
                }
                for run, p in probabilities.items()
            ],
        }
        for i, row in enumerate(ids)
    ]


def _parts(battle: pd.Series) -> list[dict]:
    """The texts of a battle; a system prompt, which few have, stands before the prompt."""
    parts = [part(PART_TITLES[name], battle[name]) for name in TURNS]
    system = battle.get("system")
    if isinstance(system, str):
        turns = [f"System: {system}", *battle.prompt]
        parts[0] = part("System prompt and prompt", turns)
    return parts


def part(title: str, turns: list[str]) -> dict:
    """A prompt's or an answer's turns as one text.

    Returns:
        title; `excerpt`, its beginning; `whole`, at most WHOLE characters of it, none if the
        excerpt has all; `shown` and `characters`, how many those are and how many there are.
    """
    numbered = [f"[{i}] {turn}" for i, turn in enumerate(turns, start=1)]
    text = "\n\n".join(numbered if len(turns) > 1 else turns).strip()
    excerpt = "\n".join(text[:EXCERPT].split("\n")[:LINES])
    complete = excerpt == text
    return {
        "title": title,
        "excerpt": excerpt if complete else f"{excerpt} …",
        "whole": None if complete else text[:WHOLE],
        "shown": min(len(text), WHOLE),
        "characters": len(text),
    }
