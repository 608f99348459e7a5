"""Scoring a file of answers: a score for each row, or the best answer to each conversation."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from stages.config.errors import UserError
from stages.config.outputs import require_writable
from stages.reward.answers import Answer, AnswerReader, open_answers
from stages.reward.scorer import Scorer
from stages.runs.blended import Model
from stages.runs.parts import UNREADABLE, unreadable_of
from stages.votes.layouts import Row
from stages.votes.rows import BadRow


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


def check_output(output: Path, given: Path) -> None:
    """Raise a UserError unless scores can be written there."""
    if output.suffix not in WRITERS:
        raise UserError(f"--output: expected a file in {', '.join(WRITERS)}, found {output}")
    if given.resolve() in (output.resolve(), unreadable_of(output).resolve()):
        raise UserError(
            f"--output: {output} and its list of unreadable rows would overwrite {given}"
        )
    require_writable(output)


@dataclass(frozen=True)
class Answers:
    """Scoring a file of answers; see stages.runs.parts.Task.

    Args:
        best_of: whether the answers to one conversation compete; see `ranked`.
    """

    given: Path
    best_of: bool
    doing: ClassVar[str] = "score"
    done: ClassVar[str] = "scored"
    instead: ClassVar[str] = "no score"

    def count(self) -> tuple[int, str]:
        """The rows of the file, and what it is taken for.

        Raises:
            UserError: there are none, or the file cannot be read, or holds lists of answers of
                which no best one is asked for.
        """
        reads, rows = open_answers(self.given)
        if reads.several and not self.best_of:
            raise UserError(
                f"{self.given} has several answers in a row, in {reads.several}: add --best-of"
            )
        return sum(1 for _ in rows), reads.words

    def rows(self) -> Iterable[Row]:
        """Those of the file, of which only some are held at once."""
        return open_answers(self.given)[1]

    def opened(self, model: Model) -> "OpenedAnswers":
        """With the model that scores them.

        Raises:
            UserError: it scores no answers without references, and there is no column of these.
        """
        reads, scorer = open_answers(self.given)[0], Scorer(model)
        scorer.check(compared=reads.reference is not None)
        return OpenedAnswers(scorer, reads)

    def join(self, parts: Collection[Path], output: Path) -> tuple[int, Path]:
        """Write the scores, or the best answers, and the list of unreadable rows."""
        columns = None if self.best_of else [*UNREADABLE, "scores"]  # texts may not fit into memory
        rows = pd.concat([pd.read_parquet(part, columns=columns) for part in parts])
        good, bad = rows[rows.reason.isna()], rows[rows.reason.notna()]
        output.parent.mkdir(parents=True, exist_ok=True)
        bad[UNREADABLE].to_csv(unreadable_of(output), index=False)
        whole = output.with_name(f"{output.name}.partial")
        several = open_answers(self.given)[0].several
        WRITERS[output.suffix](ranked(good, several) if self.best_of else _singles(rows), whole)
        whole.replace(output)
        return len(bad), unreadable_of(output)


@dataclass(frozen=True)
class OpenedAnswers:
    """A file of answers and what scores them; see stages.runs.parts.Opened."""

    scorer: Scorer
    reads: AnswerReader

    @property
    def passes(self) -> str:
        """How often an answer is read, in words."""
        return self.scorer.passes(self.reads.reference is not None)

    def frame(self, rows: Sequence[Row], start: int) -> pd.DataFrame:
        """The scores of the rows' answers."""
        return score_rows(self.scorer, self.reads, rows, start)

    def tokens(self, rows: Sequence[Row]) -> np.ndarray:
        """How many are read of each row's answers."""
        _, answers = _parsed(rows, self.reads)
        compared = self.reads.reference is not None
        counted = iter(self.scorer.tokens(list(chain(*answers)), compared))
        return np.array([sum(next(counted) for _ in each) for each in answers], dtype=int)


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
    reasons, answers = _parsed(rows, reads)
    compared = reads.reference is not None
    scores = iter(scorer.rate(list(chain(*answers)), compared).tolist())
    numbers = range(start, start + len(rows))
    table = {
        "row": numbers,
        "id": [reads.id(row) or str(number) for row, number in zip(rows, numbers, strict=True)],
        "reason": reasons,
        "conversation": [_digest(each) for each in answers],
        "answers": [[answer.response[-1] for answer in each] for each in answers],
        "scores": [[next(scores) for _ in each] for each in answers],
    }
    return pd.DataFrame(table).astype({"id": "string", "reason": "string"})


def _parsed(
    rows: Sequence[Row], reads: AnswerReader
) -> tuple[list[str | None], list[list[Answer]]]:
    """Why each row cannot be read, None if it can; and its answers, none if it cannot."""
    reasons: list[str | None] = []
    answers: list[list[Answer]] = []
    for row in rows:
        try:
            answers.append(reads.answers(row))
            reasons.append(None)
        except BadRow as error:
            answers.append([])
            reasons.append(str(error))
    return reasons, answers


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
