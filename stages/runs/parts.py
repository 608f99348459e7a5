"""Predicting a file in parts, which are kept until all are there."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from stages.config.errors import UserError
from stages.config.versions import versions
from stages.runs.blended import Model
from stages.runs.files import model_files_in
from stages.votes.files import files_of
from stages.votes.layouts import Row
from stages.votes.reading import Reader
from stages.votes.rows import TURNS, WINNERS, BadRow
from stages.votes.texts import battle_of, open_file

PART = 64  # rows that are predicted, and kept, together
CODE = Path(__file__).parent.parent  # all of stages/


def predict_parts(path: Path, model: Model, total: int, folder: Path) -> Iterator[Path]:
    """Predict a file part by part; see `in_parts`."""
    reads, rows = open_file(path, model.data)

    def predicted(part: Sequence[Row], start: int) -> pd.DataFrame:
        return predict_rows(part, start, model, reads)

    return in_parts(rows, total, folder, predicted, "predict")


def in_parts(
    rows: Iterable[Row],
    total: int,
    folder: Path,
    work: Callable[[Sequence[Row], int], pd.DataFrame],
    doing: str,
) -> Iterator[Path]:
    """Work through rows part by part, with progress.

    Args:
        total: how many rows there are.
        folder: of the parts; those that are there already are not worked on again.
        work: gives the frame of a part from its rows and the number of the first one, from 1.
        doing: what the progress bar calls it.

    Yields:
        The file of each part, in order.
    """
    ahead = iter(rows)
    with tqdm(total=total, desc=doing, unit="row") as progress:
        for start in range(1, total + 1, PART):
            part = list(itertools.islice(ahead, PART))
            kept = folder / f"rows-{start:09}.parquet"
            if kept.exists():
                progress.initial += len(part)
            else:
                partial = kept.with_suffix(".partial")
                work(part, start).to_parquet(partial, index=False)
                partial.replace(kept)
            progress.update(len(part))
            yield kept


def predict_rows(rows: Sequence[Row], start: int, model: Model, reads: Reader) -> pd.DataFrame:
    """Predict rows of a file; those that cannot be read get the prior.

    Args:
        start: number of the first row in its file, counted from 1.
        reads: the reader of the file.

    Returns:
        row, id, reason (None where the row was read) and WINNERS, in the order given.
    """
    parsed = [_parse(row, reads) for row in rows]
    good = [i for i, battle in enumerate(parsed) if not isinstance(battle, str)]
    probabilities = np.tile(model.prior, (len(rows), 1))
    if good:
        battles = pd.DataFrame([parsed[i] for i in good], columns=[*TURNS, "system"])
        probabilities[good] = model.predict(battles).final
    frame = pd.DataFrame(probabilities, columns=list(WINNERS))
    frame.insert(0, "row", range(start, start + len(rows)))
    frame.insert(1, "id", pd.array(_ids(rows, start, reads), dtype="string"))
    reasons = [battle if isinstance(battle, str) else None for battle in parsed]
    frame.insert(2, "reason", pd.array(reasons, dtype="string"))
    return frame


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


def fingerprint(path: Path, folder: Path) -> str:
    """Of the input, the model, the code and the libraries: parts are kept under it."""
    model = model_files_in(folder)
    code = sorted(CODE.rglob("*.py"))
    files = [*files_of(path), *(folder / name for name in model), *code]
    parts = {"files": [_digest(file) for file in files], "versions": versions()}
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
