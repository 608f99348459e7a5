"""Reading rows of one file: their layout and the kind of their cells are seen in the first ones."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from stages.votes.conversations import (
    Conversation,
    Kind,
    Pair,
    Round,
    conversation_of,
    is_nemo,
    kind,
    looks_listed,
    of_answers,
    of_continuations,
    of_conversations,
    text_of,
    turns_of,
)
from stages.votes.files import SURPLUS
from stages.votes.layouts import Row
from stages.votes.recognition import Found
from stages.votes.rows import BadRow, blank

SAMPLE = 1_000  # rows by which a file is known
TALKS = (Kind.MESSAGES, Kind.TRANSCRIPT)


def peek(rows: Iterator[dict]) -> tuple[list[dict], Iterable[dict]]:
    """The first rows, and all of them."""
    sample = list(islice(rows, SAMPLE))
    return sample, chain(sample, rows)


@dataclass(frozen=True)
class Reader:
    """Reads the pairs of a file.

    Attributes:
        found: its layout.
        prompt: how the prompt's cells hold texts; None where no column has the prompt.
        answers: how the answers' cells do.
    """

    found: Found
    prompt: Kind | None
    answers: Kind

    @property
    def words(self) -> str:
        """What the file is taken for."""
        prompts = f"prompts are {self.prompt.value}, " if self.prompt else ""
        return f"{self.found.name} ({prompts}answers are {self.answers.value})"

    def pair(self, row: Row, mended: Counter[str]) -> Pair:
        """The two answers of a row and what they answer.

        Args:
            mended: counts what had to be put in place for that.

        Raises:
            BadRow: naming the column that cannot be read.
        """
        self._check(row)
        layout = self.found.layout
        context = self._context(row, mended) if self.prompt else None
        if self.answers in TALKS:
            first, second = (
                _joined(context, conversation_of(name, row.get(name), mended))
                for name in (layout.a, layout.b)
            )
            last = self.found.other(row, "last") or ""
            judged = int(last) if last.isdigit() else None
            return of_conversations(first, second, mended, judged)
        a, b = (self._answer(name, row.get(name), mended) for name in (layout.a, layout.b))
        return (
            of_answers(context, a, b, mended)
            if context
            else of_continuations(a[0] or "", b[0] or "")
        )

    def _check(self, row: Row) -> None:
        """Raise a BadRow if the row has surplus fields, or holds lists where others hold texts."""
        surplus = row.get(SURPLUS)
        if isinstance(surplus, list):
            raise BadRow(f"{len(surplus)} more fields than the header has columns")
        names = (*self.found.layout.prompt, self.found.layout.a, self.found.layout.b)
        texts = self.answers is Kind.TEXT and self.prompt in (Kind.TEXT, None)
        if texts and all(looks_listed(row.get(name)) for name in names):
            raise BadRow(f"{', '.join(names)} are lists: the file's other rows hold texts")

    def _answer(self, name: str, value: object, mended: Counter[str]) -> list[str | None]:
        if self.answers is not Kind.TURNS:
            return [text_of(name, value, mended)]
        turns = turns_of(name, value)
        if self.prompt is not Kind.TURNS and len(turns) != 1:
            raise BadRow(f"{name} has {len(turns)} texts to one prompt: expected one")
        return turns

    def _context(self, row: Row, mended: Counter[str]) -> Conversation:
        """What was said before the answers, and in the system prompt."""
        names = self.found.layout.prompt
        cell = row.get(names[0])
        if self.prompt in TALKS or is_nemo(cell):
            context = conversation_of(names[0], cell, mended)
        elif self.prompt is Kind.TURNS:
            turns = turns_of(names[0], cell)
            mended["null_turns"] += turns.count(None)
            context = Conversation([Round(turn or "") for turn in turns])
        else:
            cells = {name: row.get(name) for name in names if not blank(row.get(name))}
            texts = [text_of(name, value, mended) for name, value in cells.items()]
            if not texts:
                raise BadRow(f"{' and '.join(names)} is empty")
            context = Conversation([Round("\n\n".join(texts))])
        if system := self.found.other(row, "system"):
            context.system.append(system)
        return context


def reader(found: Found, sample: Sequence[Row]) -> Reader:
    """The reader of a file, by its layout and its first rows."""
    layout = found.layout
    answers = kind([*_cells(sample, layout.a), *_cells(sample, layout.b)])
    prompts = _cells(sample, layout.prompt[0]) if layout.prompt else []
    prompt = kind(prompts) if prompts else None
    if answers is Kind.TURNS and prompt is not Kind.TURNS and not _native(sample, layout.a):
        answers = Kind.TEXT  # an answer may well be a JSON list
    return Reader(found, prompt, answers)


def _cells(sample: Sequence[Row], name: str) -> list[object]:
    return [row[name] for row in sample if not blank(row.get(name)) and row[name] != []]


def _native(sample: Sequence[Row], name: str) -> bool:
    return any(isinstance(row.get(name), list) for row in sample)


def _joined(context: Conversation | None, side: Conversation) -> Conversation:
    """An answer behind what was said before it, unless it begins with that itself."""
    if context is None or not context.rounds:
        return side
    *before, final = context.rounds
    prompts = [r.prompt.strip() for r in side.rounds]
    system = side.system or context.system
    if final.prompt.strip() in prompts:
        whole = prompts.index(final.prompt.strip()) or not before
        return Conversation(side.rounds if whole else [*before, *side.rounds], system)
    first, *later = side.rounds or [Round("")]
    if not first.prompt and final.answer is None:
        return Conversation([*before, Round(final.prompt, first.answer), *later], system)
    return Conversation([*context.rounds, *side.rounds], system)
