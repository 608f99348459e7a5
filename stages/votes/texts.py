"""Battles without votes, as a file or as texts hold them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from stages.config.data import Data
from stages.config.errors import UserError
from stages.votes.files import read_rows
from stages.votes.layouts import MAPPED, Meanings, Row
from stages.votes.reading import Reader, peek, reader
from stages.votes.recognition import recognise
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
    mapped = {name: of for name, of in data.mapped.items() if name in MAPPED and name != "label"}
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
    """Battles from a frame in any layout, such as prompt, response_a and response_b.

    Args:
        frame: of texts, of lists of turns or messages, as they are or as JSON, or of transcripts.
            Answers to a prompt that is a text are texts, too, even if they are written as lists.

    Returns:
        TURNS, equal in number in each row, and the system prompt.

    Raises:
        BadRow: a row cannot be read, with its number if there are several.
    """
    battles = []
    for number, row in enumerate(frame.to_dict("records"), start=1):
        given = {str(name): _plain(value) for name, value in row.items()}
        given = {name: value for name, value in given.items() if value is not None}
        try:
            found = recognise([given], "the request", WITHOUT_VOTES, labelled=False)
            battles.append(battle_of(given, reader(found, [given])))
        except (BadRow, UserError) as error:
            where = f"row {number}: " if len(frame) > 1 else ""
            raise BadRow(f"{where}{error}") from None
    return pd.DataFrame(battles, columns=[*TURNS, "system"])


def _plain(value: object) -> object:
    """A cell without numpy's types, which MLflow may make; None where there is none."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return None if value != value else value  # NaN is not itself
