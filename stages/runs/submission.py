"""A file of battles without votes in, a submission out, by the model of a run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from stages.config.data import Data
from stages.config.errors import UserError
from stages.config.outputs import require_writable
from stages.runs.blended import Model
from stages.runs.parts import predict_parts
from stages.votes.rows import WINNERS
from stages.votes.texts import open_file

SUBMISSION = pa.schema([("id", pa.string()), *((name, pa.float64()) for name in WINNERS)])
UNREADABLE = ["row", "id", "reason"]


def written(output: Path) -> tuple[Path, Path, Path]:
    """The submission, its parquet twin, and the list of unreadable rows."""
    return output, output.with_suffix(".parquet"), output.with_suffix(".unreadable.csv")


def check_output(output: Path, given: Path) -> None:
    """Raise a UserError unless a submission can be written there."""
    if output.suffix != ".csv":
        raise UserError(f"--output: expected a .csv file, found {output}")
    if given.resolve() in (path.resolve() for path in written(output)):
        raise UserError(f"--output: {output} and its parquet twin would overwrite {given}")
    require_writable(output)


def count_rows(given: Path, data: Data) -> tuple[int, str]:
    """The rows of a file, and what it is taken for.

    Args:
        data: how the votes were read.

    Raises:
        UserError: there are none, or the file cannot be read.
    """
    reads, rows = open_file(given, data)
    return sum(1 for _ in rows), reads.words


def submit(given: Path, total: int, model: Model, key: str, output: Path) -> int:
    """Predict a file and write the submission, its twin and the list of unreadable rows.

    Args:
        total: rows of the file.
        output: the parts are kept beside it until all are there.
        key: parts that are kept under the same are not predicted again.

    Returns:
        How many rows could not be read.
    """
    parts = output.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(parts / "lock", blocking=False):
            kept = parts / key[:16]
            kept.mkdir(exist_ok=True)
            unreadable = _join(predict_parts(given, model, total, kept), output)
            shutil.rmtree(parts)
    except Timeout:
        raise UserError(
            f"--output: another process is writing {output} ({parts}/lock is locked): wait for it, "
            "or name another file"
        ) from None
    return unreadable


def _join(parts: Iterator[Path], output: Path) -> int:
    _, twin, listed = written(output)
    partial = {path: path.with_name(f"{path.name}.partial") for path in written(output)}
    unreadable = 0
    with pq.ParquetWriter(partial[twin], SUBMISSION) as writer:
        for number, part in enumerate(parts):
            frame = pd.read_parquet(part)
            first = {"header": number == 0, "mode": "a" if number else "w", "index": False}
            submission, bad = frame[SUBMISSION.names], frame[frame.reason.notna()]
            submission.to_csv(partial[output], **first)
            bad[UNREADABLE].to_csv(partial[listed], **first)
            writer.write_table(pa.Table.from_pandas(submission, SUBMISSION, preserve_index=False))
            unreadable += len(bad)
    for path, whole in partial.items():
        whole.replace(path)
    return unreadable
