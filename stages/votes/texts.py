"""Battles without votes, as a file or as texts hold them."""

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from stages.config.errors import UserError
from stages.votes.files import FORMATS
from stages.votes.rows import TURNS, BadRow, parse_rounds

COLUMNS = ("id", *TURNS)
EXPECTED = f"expected a {', '.join(FORMATS)} file with the columns {', '.join(COLUMNS)}"
BATCH = 256  # rows of a parquet file that are held at once
SURPLUS = None  # where csv.DictReader puts fields that no column has


# Files


def read_rows(path: Path) -> Iterator[dict]:
    """Each row of a file with the columns of Kaggle's test.csv, every value as it is written.

    Only some rows are held at once, so that memory does not grow with the file.

    Yields:
        The row by column. A row that has too few fields holds None for those it lacks; one that
        has too many, a list of them under SURPLUS.

    Raises:
        UserError: the file is missing, unreadable or cut short, or lacks a column.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file: {EXPECTED}")
    if not path.name.lower().endswith(FORMATS):
        raise UserError(f"{path} has an unknown ending: {EXPECTED}")
    rows = _parquet_rows if path.suffix.lower() == ".parquet" else _csv_rows
    number = 0
    try:
        for row in rows(path):
            number += 1
            yield row
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        where = f" behind row {number}" if number else ""
        raise UserError(f"{path} cannot be read{where} ({error}): {EXPECTED}") from None


def _csv_rows(path: Path) -> Iterator[dict]:
    csv.field_size_limit(sys.maxsize)
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file, restkey=SURPLUS)
        _check_columns(path, reader.fieldnames or [])
        yield from reader


def _parquet_rows(path: Path) -> Iterator[dict]:
    with pq.ParquetFile(path) as file:
        _check_columns(path, file.schema_arrow.names)
        for batch in file.iter_batches(BATCH, columns=list(COLUMNS)):
            yield from batch.to_pylist()


def _check_columns(path: Path, found: list[str]) -> None:
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        shown = ", ".join(f"{name:.40}" for name in found) or "an empty file"
        raise UserError(f"{path} lacks the column {', '.join(missing)}: {EXPECTED}, found {shown}")


# Texts


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
        row = {name: _turns(where + name, value) for name, value in columns}
        rows.append(parse_rounds(row)[0])
    return pd.DataFrame(rows, columns=list(TURNS))


def _turns(name: str, value: object) -> list[str | None]:
    turns = _parse(value) if isinstance(value, str) else value
    if isinstance(turns, list) and turns and all(isinstance(t, str | None) for t in turns):
        return turns
    if isinstance(value, str):
        return [value]
    raise BadRow(f"{name}: expected a text or a list of texts, found {value!r:.40}")


def _parse(text: str) -> object:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
