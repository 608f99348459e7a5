"""One raw row of votes, by column, as Kaggle's train.csv has it: parsed, or refused as a BadRow."""

import json
import re
from collections import Counter
from collections.abc import Mapping

TURNS = ("prompt", "response_a", "response_b")
WINNERS = ("winner_model_a", "winner_model_b", "winner_tie")
MODELS = ("model_a", "model_b")  # may be missing

FLAGS = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0}
SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair: UTF-8 has no bytes for it


class BadRow(ValueError):
    """Why one row cannot be used."""


def parse_id(row: Mapping[str, object]) -> str:
    """The id of a raw row, as it is written there.

    Raises:
        BadRow: there is none.
    """
    if _blank(row["id"]):
        raise BadRow("id is missing")
    return str(row["id"])


def parse_models(row: Mapping[str, object]) -> dict[str, str | None]:
    """The names of the models, None where they are not known."""
    return {name: None if _blank(row.get(name)) else str(row[name]) for name in MODELS}


def _blank(value: object) -> bool:
    return value is None or value != value or not str(value).strip()  # NaN is not itself


def parse_rounds(row: Mapping[str, object]) -> tuple[dict[str, list[str]], Counter]:
    """The turns of the prompt and both answers of a raw row, equal in number.

    Returns:
        The turns by column. What had to be mended for that: null_turns that became "",
        replaced_surrogates that became U+FFFD, padded_turns, all "", that were added.

    Raises:
        BadRow: naming the column that cannot be parsed.
    """
    lists = {name: _parse_list(name, row[name]) for name in TURNS}
    if not lists["prompt"]:
        raise BadRow("prompt has no turns")
    longest = max(map(len, lists.values()))
    mended, rounds = Counter(), {}
    for name, turns in lists.items():
        missing = longest - len(turns)
        replaced = [SURROGATE.subn("\ufffd", turn or "") for turn in turns]
        rounds[name] = [text for text, _ in replaced] + [""] * missing
        mended["null_turns"] += turns.count(None)
        mended["padded_turns"] += missing
        mended["replaced_surrogates"] += sum(count for _, count in replaced)
    return rounds, mended


def _parse_list(name: str, value: object) -> list[str | None]:
    """The turns of one field: a JSON list of texts and nulls or, from parquet, the list itself."""
    try:
        turns = json.loads(value, strict=False) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        turns = None
    if not isinstance(turns, list):
        raise BadRow(f"{name} is no JSON list of turns")
    if not all(turn is None or isinstance(turn, str) for turn in turns):
        raise BadRow(f"{name} has a turn that is no text")
    return turns


def parse_label(row: Mapping[str, object]) -> int:
    """The label of a raw row's one-hot winner columns: 0 for A, 1 for B, 2 for a tie.

    Raises:
        BadRow: not exactly one of them is 1.
    """
    values = [str(row[name]).strip() for name in WINNERS]
    flags = [FLAGS.get(value.lower()) for value in values]
    if None in flags or sum(flags) != 1:
        found = ", ".join(f"{value:.20}" for value in values)
        raise BadRow(f"{', '.join(WINNERS)} are {found}: expected one 1 and two 0")
    return flags.index(1)
