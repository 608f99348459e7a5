"""Battles without votes, as a file or as texts hold them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from stages.config.errors import UserError
from stages.config.params import Data
from stages.votes.conversations import Conversation, Round, listed, of_answers
from stages.votes.files import read_rows
from stages.votes.layouts import MAPPED, Meanings, Row, recognise
from stages.votes.reading import Reader, peek, reader
from stages.votes.rows import TURNS, BadRow

WITHOUT_VOTES = Meanings({}, {})


def open_file(path: Path, data: Data) -> tuple[Reader, Iterable[Row]]:
    """The reader of a file of battles, and its rows, of which only some are held at once.

    Args:
        data: how the votes were read; its columns are looked for if the file has them.

    Raises:
        UserError: the file is missing, unreadable or cut short, holds no rows, or no layout fits.
    """
    sample, rows = peek(read_rows(path))
    if not sample:
        raise UserError(f"{path} holds no rows: nothing to predict")
    found = recognise(
        sample, str(path), WITHOUT_VOTES, mapped=_mapped(data, sample[0]), labelled=False
    )
    return reader(found, sample), rows


def _mapped(data: Data, row: Row) -> dict[str, tuple[str, ...]]:
    """The columns that the votes' file was read by, if this one has them, too."""
    columns = {k: (v,) if isinstance(v, str) else tuple(v) for k, v in data.columns.items()}
    mapped = {name: of for name, of in columns.items() if name in MAPPED and name != "label"}
    there = all(name in row for of in mapped.values() for name in of)
    return mapped if there else {}


def battle_of(row: Row, reads: Reader) -> Mapping[str, object]:
    """The turns of a row, and its system prompt.

    Raises:
        BadRow: naming the column that cannot be read.
    """
    if "id" in reads.found.others and reads.found.other(row, "id") is None:
        raise BadRow("id is missing")
    pair = vars(reads.pair(row, Counter()))
    return pair | {"system": pair["system"] or reads.found.other(row, "system")}


def from_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Battles from a frame of prompt, response_a and response_b.

    Args:
        frame: a value is a text, which is one turn, or a list of them, as it is or as JSON.

    Returns:
        The same columns as lists of turns, equal in number in each row.

    Raises:
        BadRow: a value is neither, with its column, and its row if there are several.
    """
    rows = []
    for number, values in enumerate(zip(*(frame[name] for name in TURNS), strict=True), start=1):
        where = f"row {number}: " if len(frame) > 1 else ""
        columns = zip(TURNS, values, strict=True)
        prompts, a, b = (_turns(where + name, value) for name, value in columns)
        context = Conversation([Round(prompt or "") for prompt in prompts])
        rows.append(vars(of_answers(context, a, b, Counter())))
    return pd.DataFrame(rows, columns=list(TURNS))


def _turns(name: str, value: object) -> list[str | None]:
    turns = listed(value)
    if isinstance(turns, list) and turns and all(isinstance(t, str | None) for t in turns):
        return turns
    if isinstance(value, str):
        return [value]
    raise BadRow(f"{name}: expected a text or a list of texts, found {value!r:.40}")
