"""Battles: one prompt, two answers, one vote. Read from a raw file, every row checked."""

import difflib
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
import pyarrow.parquet as pq

from stages.config.errors import UserError
from stages.config.paths import BATTLES
from stages.votes.labels import LABELS

TURNS = ("prompt", "response_a", "response_b")
WINNERS = ("winner_model_a", "winner_model_b", "winner_tie")
MODELS = ("model_a", "model_b")  # may be missing
FORMATS = (".csv", ".csv.gz", ".parquet")

FLAGS = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0}
SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair: UTF-8 has no bytes for it


class BadRow(ValueError):
    """Why one row cannot be used."""


def _turn_lists(column: pd.Series) -> pd.Series:
    return column.map(lambda turns: len(turns) > 0 and all(isinstance(t, str) for t in turns))


def _equal_turns(frame: pd.DataFrame) -> pd.Series:
    turns = frame.prompt.map(len)
    return turns.eq(frame.response_a.map(len)) & turns.eq(frame.response_b.map(len))


SCHEMA = pa.DataFrameSchema(
    {
        "id": pa.Column("string", unique=True),
        **{name: pa.Column("string", nullable=True) for name in MODELS},
        **{name: pa.Column(object, pa.Check(_turn_lists, name="texts")) for name in TURNS},
        "label": pa.Column("int8", pa.Check.isin(range(len(LABELS)))),
    },
    strict=True,
    ordered=True,
    checks=pa.Check(_equal_turns, name="as many answers as prompts"),
)


# Files


def read_raw(path: Path, required: Iterable[str] = ("id", *TURNS, *WINNERS)) -> pd.DataFrame:
    """Read a raw file; every value stays as it is written there, bytes that are no UTF-8 aside.

    Args:
        path: a file in one of FORMATS with the columns of Kaggle's train.csv.
        required: the columns without which it is of no use.

    Raises:
        UserError: the file is missing, unreadable, empty, or lacks a column.
    """
    required = tuple(required)
    expected = f"expected a {', '.join(FORMATS)} file with the columns {', '.join(required)}"
    if not path.is_file():
        raise UserError(f"{path} is no file: {expected}")
    if not path.name.lower().endswith(FORMATS):
        raise UserError(f"{path} has an unknown ending: {expected}")
    try:
        frame = _read(path)
    except pd.errors.EmptyDataError:
        raise UserError(f"{path} is empty: {expected}") from None
    except (ValueError, OSError, EOFError, NotImplementedError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): {expected}") from None
    _check_columns(path, frame.columns, required)
    if frame.empty:
        raise UserError(f"{path} holds no rows below its header: {expected}")
    return frame


def _read(path: Path) -> pd.DataFrame:
    if path.suffix.lower() == ".parquet":
        table = pq.read_table(path)
        # As Python's own objects: pandas would turn whole numbers with gaps into floats.
        columns = {name: table[name].to_pylist() for name in table.column_names}
        return pd.DataFrame(columns, dtype=object)
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding_errors="replace")
    if not isinstance(frame.index, pd.RangeIndex):  # pandas took the surplus for row names
        raise ValueError("the first row has more fields than the header")
    return frame


def _check_columns(path: Path, found: Iterable[str], required: Iterable[str]) -> None:
    found = [str(name) for name in found]
    missing = [name for name in required if name not in found]
    if not missing:
        return
    nearest = {name: difflib.get_close_matches(name, found, n=1) for name in missing}
    lacking = ", ".join(
        f"{name!r} (nearest: {near[0]!r})" if near else repr(name) for name, near in nearest.items()
    )
    raise UserError(
        f"{path} lacks the column {lacking}: expected {', '.join(required)}, "
        f"found {', '.join(f'{name:.40}' for name in found)}"
    )


def read_battles(columns: list[str]) -> pd.DataFrame:
    """Read columns of the battles that `prepare` wrote.

    Raises:
        UserError: it has not run yet.
    """
    if not BATTLES.exists():
        raise UserError(f"{BATTLES} not found: run `dvc repro prepare` first")
    return pd.read_parquet(BATTLES, columns=columns)


# Rows


def rows(raw: pd.DataFrame) -> Iterator[dict[str, object]]:
    """The rows of a raw frame, one at a time."""
    for values in zip(*(raw[name] for name in raw.columns), strict=True):
        yield dict(zip(raw.columns, values, strict=True))


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
