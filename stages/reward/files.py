"""Scoring a file of answers: a score for each row, or the best answer to each conversation."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from stages.config.errors import UserError
from stages.config.root import state
from stages.reward.answers import Answer, AnswerReader, open_answers
from stages.reward.scorer import Scorer
from stages.runs.blended import Model
from stages.runs.parts import in_parts
from stages.votes.layouts import Row
from stages.votes.rows import BadRow

UNREADABLE = ["row", "id", "reason"]


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    lists = [name for name in ("order", "scores") if name in table]
    table.assign(**{name: table[name].map(json.dumps) for name in lists}).to_csv(path, index=False)


def _write_lines(table: pd.DataFrame, path: Path) -> None:
    table.to_json(path, orient="records", lines=True, force_ascii=False, double_precision=15)


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, index=False)


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_lines,
    ".parquet": _write_parquet,
}


def unreadable_of(output: Path) -> Path:
    """The list of the rows that could not be read."""
    return output.with_suffix(".unreadable.csv")


def check_output(output: Path, given: Path) -> None:
    """Raise a UserError unless scores can be written there."""
    if output.suffix not in WRITERS:
        raise UserError(f"--output: expected a file in {', '.join(WRITERS)}, found {output}")
    if given.resolve() in (output.resolve(), unreadable_of(output).resolve()):
        raise UserError(
            f"--output: {output} and its list of unreadable rows would overwrite {given}"
        )


def count_rows(given: Path, best_of: bool) -> tuple[int, str]:
    """The rows of a file, and what it is taken for.

    Raises:
        UserError: there are none, or the file cannot be read, or holds lists of answers of which
            no best one is asked for.
    """
    reads, rows = open_answers(given)
    if reads.several and not best_of:
        raise UserError(f"{given} has several answers in a row, in {reads.several}: add --best-of")
    return sum(1 for _ in rows), reads.words


def write_scores(
    given: Path, total: int, model: Model, key: str, output: Path, best_of: bool
) -> int:
    """Score a file, and write the scores and the list of unreadable rows.

    Args:
        total: rows of the file.
        key: parts that are kept under the same are not scored again.
        best_of: whether the answers to one conversation compete; see `ranked`.

    Returns:
        How many rows could not be read.

    Raises:
        UserError: the model scores no answers without references, and there is no column of these.
    """
    reads, found = open_answers(given)
    scorer = Scorer(model)
    scorer.check(compared=reads.reference is not None)
    kept = state() / "scores" / key[:16]
    kept.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.with_suffix(".lock")):
        parts = in_parts(found, total, kept, partial(score_rows, scorer, reads), "score")
        columns = None if best_of else [*UNREADABLE, "scores"]  # texts may not fit into memory
        rows = pd.concat([pd.read_parquet(part, columns=columns) for part in parts])
        good, bad = rows[rows.reason.isna()], rows[rows.reason.notna()]
        output.parent.mkdir(parents=True, exist_ok=True)
        bad[UNREADABLE].to_csv(unreadable_of(output), index=False)
        whole = output.with_name(f"{output.name}.partial")
        WRITERS[output.suffix](ranked(good, reads.several) if best_of else _singles(rows), whole)
        whole.replace(output)
        shutil.rmtree(kept)
    return len(bad)


def score_rows(
    scorer: Scorer, reads: AnswerReader, rows: Sequence[Row], start: int
) -> pd.DataFrame:
    """Score the answers of rows of a file.

    Args:
        start: number of the first row in its file, counted from 1.

    Returns:
        row, id, reason (None where the row was read), conversation (a digest), and the lists
        answers and scores; in the order given.
    """
    parsed = [_parse(row, reads) for row in rows]
    answers = [[] if isinstance(each, str) else each for each in parsed]
    every = [answer for each in answers for answer in each]
    scores = iter(scorer.rate(every, compared=reads.reference is not None).tolist())
    numbers = range(start, start + len(rows))
    table = {
        "row": numbers,
        "id": [reads.id(row) or str(number) for row, number in zip(rows, numbers, strict=True)],
        "reason": [each if isinstance(each, str) else None for each in parsed],
        "conversation": [_digest(each) for each in answers],
        "answers": [[answer.response[-1] for answer in each] for each in answers],
        "scores": [[next(scores) for _ in each] for each in answers],
    }
    return pd.DataFrame(table).astype({"id": "string", "reason": "string"})


def _parse(row: Row, reads: AnswerReader) -> list[Answer] | str:
    """The answers of a row, or why it cannot be read."""
    try:
        return reads.answers(row)
    except BadRow as error:
        return str(error)


def _digest(answers: Sequence[Answer]) -> str:
    conversation = answers[0].conversation if answers else ""
    return hashlib.blake2b(conversation.encode(), digest_size=16).hexdigest()


def _singles(rows: pd.DataFrame) -> pd.DataFrame:
    """The id and the score of each row; none where it could not be read."""
    scores = [scores[0] if len(scores) else np.nan for scores in rows.scores]
    return pd.DataFrame({"id": rows.id, "score": scores})


def ranked(rows: pd.DataFrame, several: str | None) -> pd.DataFrame:
    """The best answer to each conversation, and the order of all.

    Args:
        rows: as `score_rows` gives them, without those that could not be read.
        several: whether a row has all the answers; else those to one conversation compete.

    Returns:
        id of the first row; best, the text of the best answer; order, the answers' numbers from
        the best to the worst, and scores in that order. A number is a place in the row's list or a
        row of the file, both from 1. Equal ones stay in the order of the file.
    """
    groups = rows.groupby("row" if several else "conversation", sort=False)
    best = [_best(group, several) for _, group in groups]
    return pd.DataFrame(best, columns=["id", "best", "order", "scores"])


def _best(group: pd.DataFrame, several: str | None) -> tuple[str, str, list[int], list[float]]:
    texts, scores = np.concatenate(group.answers.tolist()), np.concatenate(group.scores.tolist())
    order = np.argsort(-scores, kind="stable")
    numbers = np.arange(1, len(texts) + 1) if several else group.row.to_numpy()
    return group.id.iloc[0], texts[order[0]], numbers[order].tolist(), scores[order].tolist()
