"""Battles: one prompt, two answers, one vote. Read from a raw file, every row checked."""

import difflib
import gzip
import io
import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from stages.errors import UserError

LABELS = ("a", "b", "tie")  # a label is a place in this order: 0, 1, 2
TURNS = ("prompt", "response_a", "response_b")
WINNERS = ("winner_model_a", "winner_model_b", "winner_tie")
MODELS = ("model_a", "model_b")  # may be missing
FORMATS = (".csv", ".csv.gz", ".parquet")


class BadRow(ValueError):
    """Why one row cannot be used."""


def _turn_lists(column: pd.Series) -> pd.Series:
    return column.map(lambda turns: len(turns) > 0 and all(isinstance(t, str) for t in turns))


SCHEMA = pa.DataFrameSchema(
    {
        "id": pa.Column("string", unique=True),
        "model_a": pa.Column("string", nullable=True),
        "model_b": pa.Column("string", nullable=True),
        **{name: pa.Column(object, pa.Check(_turn_lists)) for name in TURNS},
        "label": pa.Column("int8", pa.Check.isin(range(len(LABELS)))),
    },
    strict=True,
    checks=pa.Check(
        lambda frame: (
            frame.prompt.map(len).eq(frame.response_a.map(len))
            & frame.prompt.map(len).eq(frame.response_b.map(len))
        ),
        name="as many answers as prompts",
    ),
)


def read_raw(path: Path, required: Iterable[str] = ("id", *TURNS, *WINNERS)) -> pd.DataFrame:
    """Read a raw file of votes; every value stays as it is written there.

    Raises:
        UserError: the file is missing, unreadable, empty, or lacks a column.
    """
    if not path.exists():
        raise UserError(f"{path} not found: data.raw in params.yaml names the file of votes")
    if not path.name.endswith(FORMATS):
        raise UserError(f"{path} is no {', '.join(FORMATS)}: convert it to one of them")
    try:
        frame = _read(path)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from None
    missing = [name for name in required if name not in frame.columns]
    if missing:
        close = difflib.get_close_matches(missing[0], map(str, frame.columns), n=1)
        hint = f"; is it called {close[0]!r}?" if close else ""
        raise UserError(
            f"{path} lacks the column {missing[0]!r}{hint} Expected {', '.join(required)}, found "
            f"{', '.join(map(str, frame.columns))}"
        )
    if frame.empty:
        raise UserError(f"{path} holds no rows: expected a header and one row for each vote")
    return frame


def _read(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
        return pd.read_csv(text, dtype=str, keep_default_na=False)


def parse_turns(value: object) -> list[str]:
    """The turns of one field: a JSON list of strings, or the list itself.

    A null turn becomes an empty one, and a lone surrogate, which no file can hold as UTF-8, U+FFFD.

    Raises:
        BadRow: it is something else.
    """
    try:
        turns = json.loads(value) if isinstance(value, str) else list(value)
    except (TypeError, ValueError):
        raise BadRow("is no JSON list of turns") from None
    if not isinstance(turns, list) or not turns:
        raise BadRow("is no JSON list of turns" if not isinstance(turns, list) else "has no turns")
    if not all(turn is None or isinstance(turn, str) for turn in turns):
        raise BadRow("has a turn that is no text")
    return [_utf8(turn or "") for turn in turns]


def _utf8(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def parse_rounds(row: dict) -> dict[str, list[str]]:
    """The prompt and both answers of a raw row, padded with empty turns to equal numbers.

    Raises:
        BadRow: naming the column that cannot be parsed.
    """
    rounds = {}
    for name in TURNS:
        try:
            rounds[name] = parse_turns(row[name])
        except BadRow as error:
            raise BadRow(f"{name} {error}") from None
    longest = max(map(len, rounds.values()))
    return {name: turns + [""] * (longest - len(turns)) for name, turns in rounds.items()}


def parse_label(row: dict) -> int:
    """The label of a raw row's one-hot winner columns: 0 for A, 1 for B, 2 for a tie.

    Raises:
        BadRow: not exactly one of them is 1.
    """
    values = [str(row[name]).strip() for name in WINNERS]
    flags = [{"1": 1, "1.0": 1, "True": 1, "0": 0, "0.0": 0, "False": 0}.get(v) for v in values]
    if None in flags or sum(flags) != 1:
        raise BadRow(f"{', '.join(WINNERS)} are {', '.join(values)}, expected one 1 and two 0")
    return flags.index(1)
