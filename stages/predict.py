"""Predict battles without votes: Kaggle's test.csv in, its submission format out.

Every fold's model predicts every row in both orders; their mean, calibrated, is the prediction.
A row that cannot be read gets the class shares of the training votes and is listed. Rows are
predicted in parts that are kept, so that a prediction that was killed goes on when started again.
"""

import argparse
import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from tqdm.auto import tqdm

from stages.config.errors import UserError, stage
from stages.config.params import load
from stages.config.paths import LOCK, PARAMS
from stages.config.root import state
from stages.config.versions import versions
from stages.runs import revisions
from stages.runs.ensemble import Ensemble
from stages.runs.outs import predicting
from stages.votes.rows import TURNS, WINNERS, BadRow, parse_id, parse_rounds
from stages.votes.texts import SURPLUS, read_rows

PART = 64  # rows that are predicted, and kept, together
SUBMISSION = pa.schema([("id", pa.string()), *((name, pa.float64()) for name in WINNERS)])
UNREADABLE = ["row", "id", "reason"]


# Where the model comes from


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options that `model_folder` reads."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--experiment", metavar="NAME", help="a DVC experiment, branch, tag or commit"
    )
    which.add_argument(
        "--model", metavar="URI", help="a model in MLflow, as runs:/ID/model or models:/NAME@ALIAS"
    )


@contextmanager
def model_folder(options: argparse.Namespace) -> Iterator[Path]:
    """The folder that an Ensemble reads: of an experiment or a model, else the workspace itself.

    Raises:
        UserError: there is none of that name, or it cannot be fetched.
    """
    if not (options.model or options.experiment):
        yield Path()
        return
    with tempfile.TemporaryDirectory(prefix="model-") as temporary:
        if options.model:
            from stages.runs import tracking  # takes seconds, and only this needs mlflow

            yield tracking.download_model(options.model, Path(temporary))
        else:
            yield _get_experiment(options.experiment, Path(temporary))


def _get_experiment(name: str, folder: Path) -> Path:
    commit = revisions.resolve(name)
    revisions.get(commit, [PARAMS, LOCK], folder)
    revisions.get(commit, predicting(load(folder / PARAMS)), folder)
    return folder


# Prediction


def predict_rows(rows: Sequence[dict], start: int, model: Ensemble) -> pd.DataFrame:
    """Predict rows of a file; those that cannot be read get the prior.

    Args:
        start: number of the first row in its file, counted from 1.

    Returns:
        row, id, reason (None where the row was read) and WINNERS, in the order given.
    """
    parsed = [_parse(row) for row in rows]
    good = [i for i, battle in enumerate(parsed) if isinstance(battle, dict)]
    probabilities = np.tile(model.prior, (len(rows), 1))
    if good:
        battles = pd.DataFrame([parsed[i] for i in good], columns=list(TURNS))
        probabilities[good] = model.predict(battles).final
    frame = pd.DataFrame(probabilities, columns=list(WINNERS))
    frame.insert(0, "row", range(start, start + len(rows)))
    frame.insert(1, "id", pd.array([_id(row) for row in rows], dtype="string"))
    reasons = [None if isinstance(battle, dict) else battle for battle in parsed]
    frame.insert(2, "reason", pd.array(reasons, dtype="string"))
    return frame


def _parse(row: dict) -> dict | str:
    """The turns of a row by column, or why it cannot be read."""
    try:
        if SURPLUS in row:
            raise BadRow(f"{len(row[SURPLUS])} more fields than the header has columns")
        parse_id(row)
        return parse_rounds(row)[0]
    except BadRow as error:
        return str(error)


def _id(row: dict) -> str:
    return "" if row["id"] is None else str(row["id"])


def predict_parts(path: Path, model: Ensemble, total: int, folder: Path) -> Iterator[Path]:
    """Predict a file part by part, with progress.

    Args:
        total: rows of the file.
        folder: of the parts; those that are there already are not predicted again.

    Yields:
        The file of each part, in order.
    """
    rows = read_rows(path)
    with tqdm(total=total, desc="predict", unit="row") as progress:
        for start in range(1, total + 1, PART):
            part = list(itertools.islice(rows, PART))
            kept = folder / f"rows-{start:09}.parquet"
            if kept.exists():
                progress.initial += len(part)
            else:
                partial = kept.with_suffix(".partial")
                predict_rows(part, start, model).to_parquet(partial, index=False)
                partial.replace(kept)
            progress.update(len(part))
            yield kept


def written(output: Path) -> tuple[Path, Path, Path]:
    """The submission, its parquet twin, and the list of unreadable rows."""
    return output, output.with_suffix(".parquet"), output.with_suffix(".unreadable.csv")


def write_submission(parts: Iterator[Path], output: Path) -> int:
    """Join the parts into the submission, its parquet twin and the list of unreadable rows.

    Returns:
        How many rows could not be read.
    """
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


# What a prediction depends on


def fingerprint(path: Path, folder: Path) -> str:
    """Of the input, the model, the code and the libraries: parts are kept under it."""
    model = predicting(load(folder / PARAMS))
    code = sorted(Path(__file__).parent.rglob("*.py"))
    files = [path, *(folder / name for name in model), *code]
    parts = {"files": [_digest(file) for file in files], "versions": versions()}
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_output(output: Path, given: Path) -> None:
    if output.suffix != ".csv":
        raise UserError(f"--output: expected a .csv file, found {output}")
    if given.resolve() in (path.resolve() for path in written(output)):
        raise UserError(f"--output: {output} and its parquet twin would overwrite {given}")


@stage
def main() -> None:
    """Write the submission, its parquet twin and the list of unreadable rows."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--input", type=Path, required=True, help="like Kaggle's test.csv")
    parser.add_argument("--output", type=Path, required=True, help="a .csv file")
    add_model_options(parser)
    options = parser.parse_args()
    _check_output(options.output, options.input)
    total = sum(1 for _ in read_rows(options.input))
    if not total:
        raise UserError(f"{options.input} holds no rows below its header: nothing to predict")
    with model_folder(options) as folder:
        model = Ensemble(folder)
        kept = state() / "predictions" / fingerprint(options.input, folder)[:16]
    kept.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.with_suffix(".lock")):
        options.output.parent.mkdir(parents=True, exist_ok=True)
        parts = predict_parts(options.input, model, total, kept)
        unreadable = write_submission(parts, options.output)
        shutil.rmtree(kept)
    print(f"{total} rows predicted by {model.checkpoint}, {len(model)} folds: {options.output}")
    if unreadable:
        listed = written(options.output)[2]
        print(f"{unreadable} of them could not be read and got the class prior: {listed}")


if __name__ == "__main__":
    main()
