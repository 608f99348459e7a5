"""Predicting a file in parts, which are kept until all are there."""

import hashlib
import itertools
import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from stages.config.errors import UserError
from stages.config.versions import versions
from stages.runs.blended import Model
from stages.runs.files import model_files_in
from stages.votes.files import files_of
from stages.votes.layouts import Row
from stages.votes.reading import Reader
from stages.votes.rows import TURNS, WINNERS, BadRow
from stages.votes.texts import battle_of

PART = 64  # rows that are predicted, and kept, together
UNREADABLE = ["row", "id", "reason"]  # of the list of the rows that could not be read
CODE = Path(__file__).parent.parent  # all of stages/


class Opened(Protocol):
    """A file and the model that works on its rows.

    Attributes:
        passes: how often a row is read, in words.
    """

    @property
    def passes(self) -> str: ...

    def frame(self, rows: Sequence[Row], start: int) -> pd.DataFrame:
        """What a part holds: a row each, in the order given; the first has the number `start`."""

    def tokens(self, rows: Sequence[Row]) -> np.ndarray:
        """Tokens (n,) that the model reads of each row; 0 of one that cannot be read."""


class Task(Protocol):
    """What is done with a file, by this process or by others, to which a task is sent.

    Attributes:
        doing, done: the verb, in the infinitive and as a participle.
        instead: what a row gets that cannot be read.
    """

    doing: ClassVar[str]
    done: ClassVar[str]
    instead: ClassVar[str]

    def count(self) -> tuple[int, str]:
        """The rows of the file, and what it is taken for; raises a UserError if it has none."""

    def rows(self) -> Iterable[Row]:
        """Those of the file, of which only some are held at once."""

    def opened(self, model: Model) -> Opened:
        """With the model that works on it; raises a UserError if that cannot do it."""

    def join(self, parts: Collection[Path], output: Path) -> tuple[int, Path]:
        """Write the output from all parts; how many rows could not be read, and their list."""


@contextmanager
def kept_parts(output: Path, key: str) -> Iterator[Path]:
    """The folder of a file's parts, beside the output and for this process alone.

    Parts are kept if the work ends before it is done.

    Args:
        key: parts that are kept under the same are not worked on again; see `fingerprint`.

    Raises:
        UserError: another process is writing the same output.
    """
    parts = output.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)
    lock = FileLock(parts / "lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"--output: another process is writing {output} ({parts}/lock is locked): wait for it, "
            "or name another file"
        ) from None
    try:
        yield parts / key[:16]
    finally:
        if not any(parts.glob("*/*.parquet")):
            shutil.rmtree(parts, ignore_errors=True)  # or it is done, and its parts are gone
        lock.release()


def unreadable_of(output: Path) -> Path:
    """The list of the rows that could not be read, beside an output."""
    return output.with_suffix(".unreadable.csv")


def part_files(kept: Path, total: int) -> dict[int, Path]:
    """The file of each part by the number of its first row, from 1, in order.

    Args:
        total: how many rows there are.
    """
    return {start: kept / f"rows-{start:09}.parquet" for start in range(1, total + 1, PART)}


def parts_of(rows: Iterable[Row], starts: Collection[int]) -> Iterator[tuple[int, list[Row]]]:
    """Some parts of a file: the number of the first row, and the rows."""
    ahead = iter(rows)
    for start in itertools.count(1, PART):
        part = list(itertools.islice(ahead, PART))
        if not part:
            return
        if start in starts:
            yield start, part


def work_through(
    task: Task, opened: Opened, starts: Collection[int], files: Mapping[int, Path]
) -> Iterator[int]:
    """Work on parts one after another and keep each.

    Yields:
        How many rows were done.
    """
    for start, rows in parts_of(task.rows(), starts):
        file = files[start]
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        opened.frame(rows, start).to_parquet(partial, index=False)
        partial.replace(file)
        yield len(rows)


def predict_rows(rows: Sequence[Row], start: int, model: Model, reads: Reader) -> pd.DataFrame:
    """Predict rows of a file; those that cannot be read get the prior.

    Args:
        start: number of the first row in its file, counted from 1.
        reads: the reader of the file.

    Returns:
        row, id, reason (None where the row was read) and WINNERS, in the order given.
    """
    parsed = [_parse(row, reads) for row in rows]
    good, battles = _readable(parsed)
    probabilities = np.tile(model.prior, (len(rows), 1))
    if good:
        probabilities[good] = model.predict(battles).final
    frame = pd.DataFrame(probabilities, columns=list(WINNERS))
    frame.insert(0, "row", range(start, start + len(rows)))
    frame.insert(1, "id", pd.array(_ids(rows, start, reads), dtype="string"))
    reasons = [battle if isinstance(battle, str) else None for battle in parsed]
    frame.insert(2, "reason", pd.array(reasons, dtype="string"))
    return frame


def count_tokens(rows: Sequence[Row], model: Model, reads: Reader) -> np.ndarray:
    """Tokens (n,) that a model reads of each row; 0 of one that cannot be read."""
    good, battles = _readable([_parse(row, reads) for row in rows])
    tokens = np.zeros(len(rows), dtype=int)
    if good:
        tokens[good] = model.tokens(battles)
    return tokens


def _readable(parsed: Sequence[Mapping[str, object] | str]) -> tuple[list[int], pd.DataFrame]:
    """Which rows can be read, and their battles."""
    good = [i for i, battle in enumerate(parsed) if not isinstance(battle, str)]
    return good, pd.DataFrame([parsed[i] for i in good], columns=[*TURNS, "system"])


def _parse(row: Row, reads: Reader) -> Mapping[str, object] | str:
    """The turns of a row by column, or why it cannot be read."""
    try:
        return battle_of(row, reads)
    except BadRow as error:
        return str(error)


def _ids(rows: Sequence[Row], start: int, reads: Reader) -> list[str]:
    """Each row's id; its number where the file has none."""
    if "id" not in reads.found.others:
        return [str(number) for number in range(start, start + len(rows))]
    return [reads.found.other(row, "id") or "" for row in rows]


def tell_unreadable(bad: int, total: int, got: str, listed: Path, limit: float) -> None:
    """Say how many rows of a file could not be read, if any.

    Args:
        got: what they got in place of an answer.
        listed: where they are listed with the reasons.
        limit: data.max_quarantined.

    Raises:
        UserError: they are more than the limit allows.
    """
    told = f"{bad} of them could not be read and got {got}: {listed}"
    if bad > limit * total:
        raise UserError(f"{told}. data.max_quarantined allows {limit:.2%} of the rows")
    if bad:
        print(told)


def fingerprint(path: Path, folder: Path, folds: int | None = None) -> str:
    """Of the input, the model, the code and the libraries: parts are kept under it.

    Args:
        folds: how many of the model's folds are taken; None is all.
    """
    model = model_files_in(folder)
    code = sorted(CODE.rglob("*.py"))
    files = [*files_of(path), *(folder / name for name in model), *code]
    parts = {"files": [_digest(file) for file in files], "versions": versions(), "folds": folds}
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
