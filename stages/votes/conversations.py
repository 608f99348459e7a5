"""Conversations: what two people were told, turn by turn, from cells of any kind."""

import ast
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import takewhile

from stages.votes.rows import BadRow

SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair, or a byte that is no text
JSON = json.JSONDecoder(strict=False)  # line breaks may stand in texts as they are
USERS = ("user", "human", "prompter")
SYSTEMS = ("system", "developer")
TOOLS = ("tool", "function", "ipython")
LIST = re.compile(r"""\s*\[\s*(["'{\]]|null|None)""")  # how a list of texts or messages begins
# hh-rlhf's and HelpSteer2's marks of who speaks
TRANSCRIPT = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
NEMO = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
IMAGE, TOOL_CALL = "[image]", "[tool call]"


class Kind(Enum):
    """How a column's cells hold texts."""

    TEXT = "texts"
    TURNS = "lists of turns"
    MESSAGES = "lists of messages"
    TRANSCRIPT = "transcripts"


@dataclass
class Round:
    """What the user says and what is answered, None where no answer is given yet."""

    prompt: str
    answer: str | None = None


@dataclass
class Conversation:
    """Rounds, in order, and what system prompts say."""

    rounds: list[Round] = field(default_factory=list)
    system: list[str] = field(default_factory=list)

    def add(self, role: str, text: str) -> None:
        """Add a message; consecutive ones of one role are joined by an empty line."""
        if role in SYSTEMS:
            self.system.append(text)
            return
        answered = not self.rounds or self.rounds[-1].answer is not None
        if role in USERS:
            if answered:
                self.rounds.append(Round(text))
            else:
                self.rounds[-1].prompt += f"\n\n{text}"
            return
        if not self.rounds:  # the assistant speaks first
            self.rounds.append(Round(""))
        before = self.rounds[-1].answer
        self.rounds[-1].answer = text if before is None else f"{before}\n\n{text}"


@dataclass
class Pair:
    """Two answers to one prompt: turns, equal in number, by the names in TURNS."""

    system: str | None
    prompt: list[str]
    response_a: list[str]
    response_b: list[str]


# Cells


def listed(value: object) -> object:
    """The list that a cell is or writes, as JSON or as Python does; None if it is none.

    A single message is a list of one.

    What numpy prints, lists without commas, is none: Python would join their texts.
    """
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, str):
        return value if isinstance(value, list) else None
    if not value.lstrip().startswith("["):
        return None
    try:
        return JSON.decode(value)
    except (ValueError, RecursionError):
        pass
    try:
        found = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return found if repr(found) == value.strip() else None


def looks_listed(value: object) -> bool:
    """Whether a cell is a list of texts or messages, or a text that begins and ends like one."""
    if isinstance(value, str):
        return bool(LIST.match(value)) and value.rstrip().endswith("]")
    return isinstance(value, (list, dict))


def kind(cells: Sequence[object]) -> Kind:
    """How most of a column's cells hold texts.

    Args:
        cells: a sample of the column, without the empty ones.
    """
    return Counter(map(_kind, cells)).most_common(1)[0][0] if cells else Kind.TEXT


def _kind(cell: object) -> Kind:
    if looks_listed(cell):
        items = listed(cell)
        told = isinstance(items, list) and items and isinstance(items[0], dict)
        return Kind.MESSAGES if told else Kind.TURNS
    hh = isinstance(cell, str) and TRANSCRIPT.match(
        cell
    )  # HelpSteer2's are plain texts, but for some
    return Kind.TRANSCRIPT if hh else Kind.TEXT


def text_of(name: str, value: object, mended: Counter[str]) -> str:
    """A cell as text; a number or a truth value of JSON is written as JSON writes it.

    Raises:
        BadRow: there is none, or it is no text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)) and value == value:
        mended["values_as_text"] += 1
        return json.dumps(value)
    raise BadRow(f"{name} is missing" if value is None else f"{name} is no text")


def turns_of(name: str, value: object) -> list[str | None]:
    """The turns of a cell: texts and nulls.

    Raises:
        BadRow: it is no list of them.
    """
    turns = listed(value)
    if not isinstance(turns, list):
        raise BadRow(f"{name} is no JSON or Python list of turns")
    if not all(turn is None or isinstance(turn, str) for turn in turns):
        raise BadRow(f"{name} has a turn that is no text")
    return turns


def conversation_of(name: str, value: object, mended: Counter[str]) -> Conversation:
    """The conversation of a cell of messages or a transcript.

    Raises:
        BadRow: it is none.
    """
    messages = listed(value)
    if isinstance(messages, list):
        spoken = [_message(name, message, mended) for message in messages]
    elif is_transcript(value):
        spoken = _transcript(str(value))
    else:
        raise BadRow(f"{name} is no list of messages, nor a transcript")
    found = Conversation()
    for role, text in spoken:
        found.add(role, text)
    return found


def _message(name: str, message: object, mended: Counter[str]) -> tuple[str, str]:
    role = message.get("role", message.get("from")) if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(role, str):
        raise BadRow(f"{name} has a message without a role")
    return role.lower(), _content(name, role.lower(), message, mended)


def is_transcript(value: object) -> bool:
    """Whether a text marks who speaks, as hh-rlhf or HelpSteer2 does."""
    return isinstance(value, str) and bool(TRANSCRIPT.match(value) or is_nemo(value))


def is_nemo(value: object) -> bool:
    """Whether a text marks who speaks as HelpSteer2 does."""
    return isinstance(value, str) and bool(NEMO.search(value))


def _transcript(text: str) -> list[tuple[str, str]]:
    first, *parts = (TRANSCRIPT if TRANSCRIPT.match(text) else NEMO).split(text)
    spoken = [(role.lower(), said) for role, said in zip(parts[::2], parts[1::2], strict=True)]
    if first:  # HelpSteer2's begin with the user's text
        spoken.insert(0, ("user", first))
    if len(spoken) > 1 and spoken[-1][0] == "assistant" and not spoken[-1][1].strip():
        spoken.pop()  # a prompt that ends with the mark of the answer to come
    return spoken


def _content(name: str, role: str, message: dict, mended: Counter[str]) -> str:
    """A message's text, with placeholders for what is none."""
    content = message.get("content", message.get("value"))
    parts = content if isinstance(content, list) else [content]
    texts = [_part(name, part, mended) for part in parts if part is not None]
    if message.get("tool_calls") or role in TOOLS:
        mended["tool_calls"] += 1
        texts = [TOOL_CALL] if role in TOOLS else [*filter(None, texts), TOOL_CALL]
    if not texts:
        mended["null_turns"] += 1
    return "\n\n".join(texts)


def _part(name: str, part: object, mended: Counter[str]) -> str:
    if not isinstance(part, dict):
        return text_of(name, part, mended)
    type_ = str(part.get("type"))
    if isinstance(part.get("text"), str) or type_ == "text":
        return part.get("text") or ""
    if "type" not in part:
        raise BadRow(f"{name} has a message whose content is neither text nor of a known type")
    is_image = "image" in type_
    mended["images" if is_image else "tool_calls" if "tool" in type_ else "other_parts"] += 1
    return IMAGE if is_image else f"[{type_.replace('_', ' ')}]"


# Pairs


def of_conversations(
    a: Conversation, b: Conversation, mended: Counter[str], last: int | None = None
) -> Pair:
    """The pair of two whole conversations.

    Where the user goes on differently in them, what follows counts as part of the last answer.

    Args:
        last: the round that the vote is about; later ones were not judged.

    Raises:
        BadRow: the user says nothing, or does not begin alike.
    """
    sides = [a.rounds[:last], b.rounds[:last]]
    alike = [left.prompt == right.prompt for left, right in zip(*sides, strict=False)]
    shared = alike.index(False) if False in alike else len(alike)
    if not shared:
        raise BadRow("the two conversations begin with different texts of the user, or with none")
    mended["went_on_differently"] += max(map(len, sides)) > shared
    prompts = [r.prompt for r in sides[0][:shared]]
    of_a, of_b = (_answers(side, shared) for side in sides)
    return aligned(a.system or b.system, prompts, of_a, of_b, mended)


def _answers(rounds: list[Round], shared: int) -> list[str | None]:
    answers = [r.answer for r in rounds[:shared]]
    for later in rounds[shared:]:
        said = f"User: {later.prompt}\n\nAssistant: {later.answer or ''}"
        answers[-1] = f"{answers[-1] or ''}\n\n{said}"
    return answers


def of_answers(
    context: Conversation, a: list[str | None], b: list[str | None], mended: Counter[str]
) -> Pair:
    """The pair of what was said before and two answers, which are lists of turns.

    One answer to several turns is that to the last of them.

    Raises:
        BadRow: the prompt has no turns, or ends with an answer.
    """
    if not context.rounds:
        raise BadRow("prompt has no turns")
    *before, final = context.rounds
    if final.answer is not None:
        raise BadRow("prompt ends with an answer, and not with what the user says")
    if before and len(a) == len(b) == 1:
        earlier = [r.answer or "" for r in before]
        a, b = [*earlier, *a], [*earlier, *b]
        mended["final_answers_only"] += 1
    return aligned(context.system, [r.prompt for r in context.rounds], a, b, mended)


def of_continuations(a: str, b: str) -> Pair:
    """The pair of two texts that begin with the prompt, up to the last word that they share.

    Raises:
        BadRow: they share none.
    """
    both = takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
    shared = "".join(left for left, _ in both)
    end = max(shared.rfind(" "), shared.rfind("\n")) + 1
    if not shared[:end].strip():
        raise BadRow("there is no prompt: no column has it, and the answers do not begin alike")
    return Pair(None, [shared[:end]], [a[end:]], [b[end:]])


def aligned(
    system: list[str],
    prompts: Sequence[str | None],
    a: Sequence[str | None],
    b: Sequence[str | None],
    mended: Counter[str],
) -> Pair:
    """The pair with empty turns at the end of what is shorter.

    Args:
        mended: counts null_turns that became "", padded_turns that were added, and
            replaced_surrogates that became U+FFFD.
    """
    sides = (prompts, a, b)
    longest = max(map(len, sides))
    mended["padded_turns"] += sum(longest - len(side) for side in sides)
    mended["null_turns"] += sum(list(side).count(None) for side in sides)
    turns = [
        [clean(turn or "", mended) for turn in side] + [""] * (longest - len(side))
        for side in sides
    ]
    return Pair(clean("\n\n".join(system), mended) or None, *turns)


def clean(text: str, mended: Counter[str]) -> str:
    """A text that UTF-8 has bytes for."""
    if text.isascii():
        return text
    text, replaced = SURROGATE.subn("\ufffd", text)
    mended["replaced_surrogates"] += replaced
    return text
