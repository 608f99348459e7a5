"""How many tokens the votes are, and what is cut off them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import AutoTokenizer

from stages.config.params import Params
from stages.model.prompts import Round, Template, template_for
from stages.votes.rows import TURNS

CLASSES = 3  # without ties a question is a token shorter
CHARACTERS = 4.0  # a token, of English, where no tokenizer is here
# Of the tokens: of another backbone's tokenizer, and of characters.
ERROR_OF_ANOTHER, ERROR_OF_CHARACTERS = 0.1, 0.25


@dataclass(frozen=True)
class Counter:
    """What counts tokens.

    Attributes:
        name: whose tokenizer it is; None counts characters.
        error: of the tokens, as a share, since it is not the backbone's own.
    """

    folder: Path | None
    name: str | None
    error: float = 0.0


@dataclass(frozen=True)
class Lengths:
    """Tokens of votes as a backbone reads them, in one order.

    Attributes:
        kept: (n,), of each vote.
        dropped: (n,), that do not fit in max_tokens.
        texts: that a vote is: 2 where each answer is read by itself.
    """

    kept: np.ndarray
    dropped: np.ndarray
    texts: int

    @property
    def mean(self) -> float:
        """Tokens of a vote."""
        return float(self.kept.mean())

    @property
    def truncated(self) -> float:
        """The share of votes that are cut."""
        return float((self.dropped > 0).mean())

    @property
    def error(self) -> float:
        """The standard error of the mean, as a share of it."""
        return float(self.kept.std() / len(self.kept) ** 0.5 / self.mean)

    @property
    def span(self) -> float:
        """How many tokens a token attends to, in the mean over tokens; itself and those before."""
        of_text = self.kept / self.texts
        return float((of_text**2).sum() / (2 * of_text.sum()))


def lengths(battles: pd.DataFrame, counter: Counter, params: Params) -> tuple[Lengths, Lengths]:
    """Count the tokens of battles: cut at max_tokens, and at twice as many."""
    most = params.budget.max_tokens
    if counter.folder is None:
        return _by_characters(battles, most, params), _by_characters(battles, 2 * most, params)
    tokenizer = AutoTokenizer.from_pretrained(counter.folder, trust_remote_code=False)
    if counter.error:  # another checkpoint's, which may have no chat template
        params = params.model_copy(
            update={"prompt": params.prompt.model_copy(update={"chat": False})}
        )
    template = template_for(tokenizer, params, CLASSES)
    longer = type(template)(tokenizer, 2 * most, params.prompt, CLASSES)
    rounds = template.tokenize(battles)
    return _encoded(rounds, template), _encoded(rounds, longer)


def _encoded(battles: list[list[Round]], template: Template) -> Lengths:
    found = [template.encode(rounds) for rounds in battles]
    kept, dropped = np.array([(len(each), each.dropped) for each in found]).T
    return Lengths(kept, dropped, template.texts)


def _by_characters(battles: pd.DataFrame, most: int, params: Params) -> Lengths:
    texts = 2 if params.train.objective == "reward" else 1
    prompt, a, b = (
        battles[name].map(lambda turns: sum(map(len, turns))).to_numpy() / CHARACTERS
        for name in TURNS
    )
    whole = texts * prompt + a + b
    kept = np.minimum(whole, most).round()
    return Lengths(kept, (whole - kept).round(), texts)
