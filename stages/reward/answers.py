"""Single answers in their conversations, from Python's values or from rows of a file."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stages.config.errors import UserError
from stages.votes.conversations import Kind, clean, conversation_of, listed, text_of
from stages.votes.files import SURPLUS, read_rows
from stages.votes.layouts import OTHERS, PROMPTS, Layout, Row
from stages.votes.reading import TALKS, Reader, peek, reader
from stages.votes.recognition import Found
from stages.votes.rows import BadRow
from stages.votes.texts import WITHOUT_VOTES

Talk = str | list[str] | list[dict]  # a text, texts, or messages of {role, content}
EXPECTED = (
    "expected prompt and response (or TRL's completion), prompt and responses (a list of "
    "answers), or messages, of which the last is the answer"
)


@dataclass(frozen=True)
class Answer:
    """An answer in its conversation.

    Attributes:
        system: the system prompt, if there is one.
        prompt: what the user says, turn by turn.
        response: what is answered to each turn; the last one is the answer that gets a score.
        references: other answers to the last turn, to compare it with.
    """

    system: str | None
    prompt: list[str]
    response: list[str]
    references: Sequence[str] = ()

    @property
    def conversation(self) -> str:
        """What it answers, and what it is compared with: the same for answers that compete."""
        return repr((self.system, self.prompt, self.response[:-1], list(self.references)))


def answer_of(
    conversation: Talk, answer: Talk, references: str | list[str] | None = None
) -> Answer:
    """An answer from Python's values, or JSON's.

    Args:
        conversation: what the user says; that turn by turn, as a list of texts; or messages.
        answer: a text; an answer to each turn, as a list of texts; or messages.
        references: another answer to the last turn, or several.

    Raises:
        BadRow: one of them cannot be read.
    """
    if isinstance(conversation, str):  # which then stays a text, whatever it looks like
        conversation = [{"role": "user", "content": conversation}]
    row = {"conversation": conversation, "answer": answer}
    layout = Layout("", "answer", "answer", prompt=("conversation",))
    kinds = (_kind(name, value) for name, value in row.items())
    reads = Reader(Found("values", layout, {}, WITHOUT_VOTES), *kinds)
    if references is None:
        return _read(reads, row, [])
    given = [references] if isinstance(references, str) else references
    return _read(reads, row, _list_of_texts("references", given))


def _kind(name: str, value: object) -> Kind:
    if isinstance(value, str):
        return Kind.TEXT
    if not isinstance(value, list) or not value:
        raise BadRow(f"{name} is {value!r:.40}: expected a text, a list of texts, or messages")
    return Kind.MESSAGES if isinstance(value[0], dict) else Kind.TURNS


# From a file


@dataclass(frozen=True)
class AnswerReader:
    """Reads the answers of a file's rows.

    Attributes:
        reads: the conversation and one answer.
        several: the column of a list of answers, if there is one.
        reference: the column of one reference or of a list of them, if there is one.
    """

    reads: Reader
    several: str | None
    reference: str | None

    @property
    def words(self) -> str:
        """What the file is taken for."""
        beside = f", compared with {self.reference}" if self.reference else ""
        return f"{self.reads.words}{beside}"

    def id(self, row: Row) -> str | None:
        """The id of a row, if it has one."""
        return self.reads.found.other(row, "id")

    def answers(self, row: Row) -> list[Answer]:
        """The answers of a row: one, unless the file has lists of them.

        Raises:
            BadRow: naming the column that cannot be read.
        """
        if "id" in self.reads.found.others and self.id(row) is None:
            raise BadRow("id is missing")
        references = self._references(row) if self.reference else []
        if self.several is None:
            return [_read(self.reads, row, references)]
        texts = _list_of_texts(self.several, row.get(self.several))
        return [_read(self.reads, {**row, self.several: text}, references) for text in texts]

    def _references(self, row: Row) -> list[str]:
        name, value = str(self.reference), row.get(str(self.reference))
        if name == "references":
            return _list_of_texts(name, value)
        return [text_of(name, value, Counter())]


def _list_of_texts(name: str, value: object) -> list[str]:
    texts = listed(value)
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise BadRow(f"{name} is no list of texts: expected one, in JSON where it is written")
    return texts


def open_answers(path: Path) -> tuple[AnswerReader, Iterable[Row]]:
    """The reader of a file of answers, and its rows, of which only some are held at once.

    Raises:
        UserError: the file is missing, unreadable, empty, or has other columns.
    """
    sample, rows = peek(read_rows(path))
    if not sample:
        raise UserError(f"{path} holds no rows: nothing to score")
    columns = list(dict.fromkeys(name for row in sample for name in row if name != SURPLUS))
    found = _found(columns)
    if found is None:
        told = ", ".join(f"{name:.40}" for name in columns)
        raise UserError(f"{path} holds no answers to score: {EXPECTED}; found {told}")
    reads = reader(found, sample)
    several = found.layout.a if found.layout.a == "responses" else None
    if several:
        reads = replace(reads, answers=Kind.TEXT)
    reference = next((name for name in ("references", "reference") if name in columns), None)
    return AnswerReader(reads, several, reference), rows


def _found(columns: Sequence[str]) -> Found | None:
    """The columns of the conversation and the answer."""
    prompts = [names for names in PROMPTS if set(names) <= set(columns)]
    answers = [name for name in ("responses", "response", "completion") if name in columns]
    if prompts and answers:
        layout = Layout("", answers[0], answers[0], prompt=prompts[0])
    elif "messages" in columns:
        layout = Layout("", "messages", "messages", needs_prompt=False)
    else:
        return None
    others = {
        name: next(known for known in OTHERS[name] if known in columns)
        for name in ("id", "system")
        if set(OTHERS[name]) & set(columns)
    }
    return Found(f"answers in {layout.a}", layout, others, WITHOUT_VOTES)


def _read(reads: Reader, row: Row, references: Sequence[str]) -> Answer:
    mended: Counter[str] = Counter()
    pair, name = reads.pair(row, mended), reads.found.layout.a  # one answer, as both of a pair
    if mended["padded_turns"] or _unknown_answers(reads, len(pair.prompt), mended):
        raise BadRow(
            f"there are {len(pair.prompt)} turns of the user, and not as many answers in {name}: "
            "expected an answer to each turn, or messages, which say who speaks"
        )
    if reads.answers in TALKS and _unanswered(name, row[name]):
        raise BadRow(f"{name} ends with what the user says: expected the answer to score")
    if not any(turn.strip() for turn in pair.prompt):
        raise BadRow("the conversation is empty: expected what the user says")
    system = pair.system or clean(reads.found.other(row, "system") or "", mended) or None
    compared = [clean(text, mended) for text in references]
    if not all(text.strip() for text in compared):
        raise BadRow("a reference is empty: expected an answer to compare with")
    return Answer(system, pair.prompt, pair.response_a, compared)


def _unknown_answers(reads: Reader, turns: int, mended: Counter[str]) -> bool:
    """Whether several turns have one answer, so that what was said between them is not known."""
    if reads.prompt is not Kind.TURNS or turns == 1:
        return False
    return reads.answers is not Kind.TURNS or bool(mended["final_answers_only"])


def _unanswered(name: str, value: object) -> bool:
    return conversation_of(name, value, Counter()).rounds[-1].answer is None
