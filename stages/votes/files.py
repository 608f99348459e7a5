"""Files of raw votes: from a container, CSV or parquet, to a frame whose values stay as written."""

import difflib
import zlib
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from stages.config.errors import UserError
from stages.votes.rows import TURNS, WINNERS

FORMATS = (".csv", ".csv.gz", ".parquet")


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
