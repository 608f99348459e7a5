"""A battle as tokens: rounds of prompt, answer A and answer B, then the final question.

The same plain text serves every backbone, so that backbones differ only in what they know. By param
it stands in the checkpoint's own chat template, as the one message of a user whom the assistant
answers. Its parts are tokenised once and joined as ids: a user's text can then neither make a
special token nor be cut inside one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from transformers import PreTrainedTokenizerBase

from stages.config.errors import UserError
from stages.config.params import Params, Prompt

SYSTEM, PROMPT = "\n\nSystem: ", "\n\nUser: "
ANSWER, ANSWER_A, ANSWER_B = "\n\nAnswer: ", "\n\nAnswer A: ", "\n\nAnswer B: "
QUESTIONS = {2: "\n\nThe better answer (A or B):", 3: "\n\nThe better answer (A, B or tie):"}
QUALITY = "\n\nThe quality of the answer:"
ANSWERS = (" A", " B", " tie")  # in the order of labels.LABELS; a chat's reply has no space first
MESSAGE = "THE-BATTLE-STANDS-HERE"  # where a chat template puts what the user writes
ELLIPSIS = " […] "
COUNTS = {
    "words": r"\S+",
    "lines": r"[^\n]+",
    # Not \s, which would read the same blank lines again from each of them.
    "list items": r"(?m)^[^\S\n]*(?:[-*•]|\d+[.)]) ",
    "headings": r"(?m)^#+ ",
    "bold": r"\*\*[^*\n]+\*\*",
    "code blocks": r"(?s)```.*?```",
}
SHORTEST_ROUND = 48  # tokens; an older round with less room than this is dropped whole


@dataclass(frozen=True)
class Round:
    """The tokens of one turn: its prompt and both answers.

    Attributes:
        system: the system prompt's, which the first turn of a battle may have.
    """

    prompt: list[int]
    a: list[int]
    b: list[int]
    system: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.prompt) + len(self.a) + len(self.b)


@dataclass(frozen=True)
class Encoded:
    """A battle as a backbone reads it.

    Attributes:
        ids: token ids; the last one is the final question's last.
        dropped: tokens of the battle that did not fit.
        second: of the answer shown second, where each is read by itself.
    """

    ids: list[int]
    dropped: int
    second: list[int] | None = None

    @property
    def texts(self) -> list[list[int]]:
        """What is read: the whole, or each answer by itself; in sum at most max_tokens."""
        return [self.ids] if self.second is None else [self.ids, self.second]

    def __len__(self) -> int:
        return sum(map(len, self.texts))


class Template:
    """The fixed tokens around a battle, for one tokenizer, budget and number of classes.

    Attributes:
        start, end: what stands before and after it, special tokens among them.

    Raises:
        UserError: max_tokens leaves no room for a battle, or the chat template is missing.
    """

    texts = 1  # that a battle is

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        shares: Prompt,
        classes: int = len(ANSWERS),
    ) -> None:
        self.tokenizer = tokenizer
        self.shares = self._shares(shares)
        self.show = counted if shares.counts else str
        self.start, self.end = (
            chat_around(tokenizer) if shares.chat else (leading_special(tokenizer), [])
        )
        *marks, question = self._words(classes)
        self.marks = self._ids(marks)
        self.question, self.ellipsis, self.system = self._ids([question, ELLIPSIS, SYSTEM])
        self.round_marks = sum(map(len, self.marks))
        self.question += self.end
        around = len(self.start) + len(self.question)
        self.room = max_tokens // self.texts - around
        if self.room < self.round_marks + SHORTEST_ROUND:
            needed = self.texts * (around + self.round_marks + SHORTEST_ROUND)
            raise UserError(
                f"max_tokens of the scale is {max_tokens}: this backbone's tokenizer needs at "
                f"least {needed} for the question and a piece of each answer; raise it"
            )

    def _shares(self, shares: Prompt) -> tuple[float, float, float]:
        return shares.prompt, shares.response_a, shares.response_b

    def _words(self, classes: int) -> tuple[str, str, str, str]:
        """What stands before the prompt, before A and before B, and the final question."""
        return PROMPT, ANSWER_A, ANSWER_B, QUESTIONS[classes]

    def tokenize(self, battles: pd.DataFrame) -> list[list[Round]]:
        """Tokenise the turns of battles: prompt, response_a, response_b; and system, if known."""
        rounds = self._rounds(battles)
        if "system" not in battles:
            return rounds
        known = battles.system.notna().to_numpy()
        systems = iter(self._ids(battles.system[known].tolist()))
        return [
            [replace(battle[0], system=next(systems)), *battle[1:]] if has_one else battle
            for battle, has_one in zip(rounds, known, strict=True)
        ]

    def _rounds(self, battles: pd.DataFrame) -> list[list[Round]]:
        parts = zip(battles.prompt, battles.response_a, battles.response_b, strict=True)
        turns = [list(zip(*battle, strict=True)) for battle in parts]
        flat = self._ids(
            [
                text
                for rounds in turns
                for prompt, a, b in rounds
                for text in (prompt, self.show(a), self.show(b))
            ]
        )
        tokens = iter(flat)
        return [
            [Round(next(tokens), next(tokens), next(tokens)) for _ in rounds] for rounds in turns
        ]

    def encode(self, rounds: Sequence[Round], swapped: bool = False) -> Encoded:
        """Join the system prompt and the rounds, newest kept first, within the budget.

        A battle that is too long loses its oldest rounds; the oldest one kept may be shortened, its
        parts to their shares of the room. A system prompt stays, shortened to the prompt's share.
        The final question always stays.
        """
        kept: list[list[int]] = []
        system = self._system(rounds[0].system)
        room = whole = self.room - len(system)
        for round_ in reversed(rounds):
            available = room - self.round_marks
            if kept and available < min(len(round_), SHORTEST_ROUND):
                break
            fitted = self._fit(round_, available)
            kept.append(self._render(fitted, swapped))
            room -= len(kept[-1])
            if fitted is not round_:
                break
        ids = self.start + system + [i for part in reversed(kept) for i in part] + self.question
        texts = sum(map(len, rounds)) + self.round_marks * len(rounds)
        cut = len(rounds[0].system) + len(self.system) - len(system) if system else 0
        return Encoded(ids, dropped=cut + max(0, texts - (whole - room)))

    def _system(self, tokens: Sequence[int]) -> list[int]:
        if not tokens:
            return []
        size = max(0, int(self.room * self.shares[0]) - len(self.system))
        return self.system + self._shorten(list(tokens), size)

    def _fit(self, round_: Round, room: int) -> Round:
        if len(round_) <= room:
            return round_
        parts = (round_.prompt, round_.a, round_.b)
        sizes = fill([len(part) for part in parts], self.shares, room)
        return Round(*(self._shorten(part, size) for part, size in zip(parts, sizes, strict=True)))

    def _shorten(self, part: list[int], size: int) -> list[int]:
        """Keep both ends: a prompt's task may stand at either, an answer's verdict at its end."""
        if len(part) <= size:
            return part
        ends = max(0, size - len(self.ellipsis))
        head = (ends + 1) // 2
        return (part[:head] + self.ellipsis + part[len(part) - (ends - head) :])[:size]

    def _render(self, round_: Round, swapped: bool) -> list[int]:
        a, b = (round_.b, round_.a) if swapped else (round_.a, round_.b)
        prompt_mark, a_mark, b_mark = self.marks
        return prompt_mark + round_.prompt + a_mark + a + b_mark + b

    def _ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True).input_ids


class Apart(Template):
    """The same where each answer is read by itself, after its own turns, in half of the tokens."""

    texts = 2

    def _shares(self, shares: Prompt) -> tuple[float, float, float]:
        return shares.prompt, shares.response_a + shares.response_b, 0.0

    def _words(self, classes: int) -> tuple[str, str, str, str]:
        return PROMPT, ANSWER, "", QUALITY

    def encode(self, rounds: Sequence[Round], swapped: bool = False) -> Encoded:
        """Each answer with the turns that led to it, the one shown first before the other."""
        a = super().encode([replace(round_, b=[]) for round_ in rounds])
        b = super().encode([replace(round_, a=round_.b, b=[]) for round_ in rounds])
        first, second = (b, a) if swapped else (a, b)
        return Encoded(first.ids, first.dropped + second.dropped, second.ids)


def template_for(tokenizer: PreTrainedTokenizerBase, params: Params, classes: int) -> Template:
    """The template of the params' objective and budget."""
    kind = Apart if params.train.objective == "reward" else Template
    return kind(tokenizer, params.budget.max_tokens, params.prompt, classes)


def counted(answer: str) -> str:
    """An answer after its length and format in words, for a backbone that cannot count them."""
    counts = (f"{len(re.findall(pattern, answer))} {name}" for name, pattern in COUNTS.items())
    return f"({', '.join(counts)}) {answer}"


def fill(lengths: Sequence[int], shares: Sequence[float], room: int) -> list[int]:
    """Divide `room` tokens by shares; what a short part leaves over goes to the longer ones.

    Returns:
        The tokens that each part may keep: at most its length, in sum at most `room`.
    """
    sizes = [0] * len(lengths)
    open_ = [i for i, share in enumerate(shares) if share > 0]
    while open_:
        total = sum(shares[i] for i in open_)
        left = room - sum(sizes)
        due = {i: int(left * shares[i] / total + 1e-9) for i in open_}  # 60 · 0.2 / 0.6 is 19.99…
        short = [i for i in open_ if lengths[i] <= due[i]]
        for i in short or open_:
            sizes[i] = lengths[i] if short else due[i]
        open_ = [i for i in open_ if i not in short] if short else []
    return sizes


def leading_special(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens the tokenizer itself puts before a text (a BOS, or none)."""
    plain = tokenizer("a", add_special_tokens=False).input_ids
    with_special = tokenizer("a").input_ids
    return with_special[: with_special.index(plain[0])]


def chat_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The tokens that a checkpoint's chat template puts before and after a user's only message.

    Raises:
        UserError: there is no template, or it does not let a message stand as it is.
    """
    if not tokenizer.chat_template:
        raise UserError(
            "prompt.chat is true, but the checkpoint has no chat template: set it to false, or "
            "take a checkpoint that was made for chats"
        )
    chat = [{"role": "user", "content": MESSAGE}]
    shown = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    if shown.count(MESSAGE) != 1:
        raise UserError(
            f"prompt.chat is true, but the checkpoint's chat template shows a user's message "
            f"{shown.count(MESSAGE)} times: expected once; set prompt.chat to false"
        )
    around = tokenizer(shown.split(MESSAGE), add_special_tokens=False).input_ids
    return around[0], around[1]


def answer_ids(
    tokenizer: PreTrainedTokenizerBase, chat: bool = False, classes: int = len(ANSWERS)
) -> list[int]:
    """The first token of each answer, in the order of the labels, for the `sft` objective.

    Args:
        chat: whether they begin an assistant's reply.
        classes: how many answers there are: 3, or 2 without ties.

    Raises:
        UserError: two answers begin with the same token.
    """
    answers = [answer.strip() if chat else answer for answer in ANSWERS[:classes]]
    ids = [ids[0] for ids in tokenizer(answers, add_special_tokens=False).input_ids]
    if len(set(ids)) < len(ids):
        raise UserError(
            f"the answers {answers} begin with the same token under this tokenizer ({ids}), so the "
            "objective sft cannot tell them apart: use train.objective classify for this backbone"
        )
    return ids
