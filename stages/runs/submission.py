"""A file of battles without votes in, a submission out, by the model of a run."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.config.data import Data
from stages.config.errors import UserError
from stages.config.outputs import require_writable
from stages.runs.blended import Model
from stages.runs.parts import UNREADABLE, count_tokens, predict_rows, unreadable_of
from stages.votes.layouts import Row
from stages.votes.reading import Reader
from stages.votes.rows import WINNERS
from stages.votes.texts import open_file

SUBMISSION = pa.schema([("id", pa.string()), *((name, pa.float64()) for name in WINNERS)])


def written(output: Path) -> tuple[Path, Path, Path]:
    """The submission, its parquet twin, and the list of unreadable rows."""
    return output, output.with_suffix(".parquet"), unreadable_of(output)


def check_output(output: Path, given: Path) -> None:
    """Raise a UserError unless a submission can be written there."""
    if output.suffix != ".csv":
        raise UserError(f"--output: expected a .csv file, found {output}")
    if given.resolve() in (path.resolve() for path in written(output)):
        raise UserError(f"--output: {output} and its parquet twin would overwrite {given}")
    require_writable(output)


@dataclass(frozen=True)
class Battles:
    """Predicting a file of battles; see stages.runs.parts.Task.

    Args:
        data: how the votes were read.
    """

    given: Path
    data: Data
    doing: ClassVar[str] = "predict"
    done: ClassVar[str] = "predicted"
    instead: ClassVar[str] = "the class prior"

    def count(self) -> tuple[int, str]:
        """The rows of the file, and what it is taken for; raises a UserError if it has none."""
        reads, rows = open_file(self.given, self.data)
        return sum(1 for _ in rows), reads.words

    def rows(self) -> Iterable[Row]:
        """Those of the file, of which only some are held at once."""
        return open_file(self.given, self.data)[1]

    def opened(self, model: Model) -> "OpenedBattles":
        """With the model that predicts them."""
        return OpenedBattles(model, open_file(self.given, self.data)[0])

    def join(self, parts: Collection[Path], output: Path) -> tuple[int, Path]:
        """Write the submission, its twin and the list of unreadable rows."""
        output.parent.mkdir(parents=True, exist_ok=True)
        return _join(parts, output), unreadable_of(output)


@dataclass(frozen=True)
class OpenedBattles:
    """A file of battles and the model that predicts them; see stages.runs.parts.Opened."""

    model: Model
    reads: Reader

    @property
    def passes(self) -> str:
        """How often a row is read, in words."""
        return self.model.passes

    def frame(self, rows: Sequence[Row], start: int) -> pd.DataFrame:
        """Their predictions."""
        return predict_rows(rows, start, self.model, self.reads)

    def tokens(self, rows: Sequence[Row]) -> np.ndarray:
        """How many the model reads of each row."""
        return count_tokens(rows, self.model, self.reads)


def _join(parts: Iterable[Path], output: Path) -> int:
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
