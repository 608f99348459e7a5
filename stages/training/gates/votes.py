"""Gates on the votes: what is trained on is labelled, shown and kept apart as it should be."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from stages.model.examples import Examples
from stages.model.prompts import chat_around, leading_special
from stages.training.gates.gate import Finding, Phase

Truth: TypeAlias = Mapping[str, np.ndarray]

ALL = Phase()  # on (training, held_out, truth): all examples of a fold, and each vote's target
SHOWN = Phase()  # on a few examples, as the backbone sees them


@ALL.gate(
    "labels",
    "a label is not the vote on its battle",
    "labels were joined to the battles by place and not by id, or permuted",
    "the examples are of other battles than this fold's",
)
def labels(training: Examples, held_out: Examples, truth: Truth) -> Finding:
    """Every target is the one its battle's id has in the votes."""
    nothing = np.zeros(training.classes)
    true = np.array([truth.get(id_, nothing) for id_ in training.ids])
    wrong = int((np.abs(training.targets - true) > 1e-6).any(axis=1).sum())
    return Finding(wrong == 0, f"{wrong} labels off the votes", "none")


@ALL.gate(
    "held_out",
    "a battle is both trained on and predicted",
    "the examples of another fold were taken",
    "the frames of the fold overlap",
)
def held_out(training: Examples, held_out: Examples, truth: Truth) -> Finding:
    """No battle is both trained on and predicted."""
    both = len(set(training.ids) & set(held_out.ids))
    return Finding(both == 0, f"{both} battles to predict among those to train on", "none")


@SHOWN.gate(
    "special_tokens",
    "the start token is missing or doubled, or a vote's text made a special token",
    "the tokenizer drops its start token, or the template and the tokenizer both add one",
    "a vote's text was allowed to make a special token (split_special_tokens is off)",
)
def special_tokens(examples: Examples) -> Finding:
    """The tokenizer's own start, or its chat's, once, and no special token out of a vote's text."""
    tokenizer = examples.template.tokenizer
    chat = examples.template.end
    start, end = chat_around(tokenizer) if chat else (leading_special(tokenizer), [])
    special = set(tokenizer.all_special_ids)
    wrong = 0
    for i in range(len(examples)):
        for ids in examples.encode(i).texts:
            text = ids[len(start) : len(ids) - len(end)]
            around = ids[: len(start)] == start and ids[len(ids) - len(end) :] == end
            wrong += not around or any(token in special for token in text)
    expected = f"none off {start} at the start" + (f" and {end} at the end" if chat else "")
    return Finding(wrong == 0, f"{wrong} texts", expected)


@SHOWN.gate(
    "swap",
    "exchanging A and B does not exchange answers and labels alike",
    "answers A and B are exchanged without their labels, or labels without the answers",
)
def swap(examples: Examples) -> Finding:
    """Exchanging A and B exchanges the answers read, and what the vote says of them."""
    exchanged = replace(
        examples, rounds=[[replace(r, a=r.b, b=r.a) for r in rounds] for rounds in examples.rounds]
    )
    wrong = sum(
        examples.encode(i, swapped=True).texts != exchanged.encode(i).texts
        or list(examples.target(i, swapped=True)) != _exchanged(examples.target(i))
        for i in range(len(examples))
    )
    return Finding(wrong == 0, f"{wrong} examples that do not mirror", "none")


def _exchanged(target: np.ndarray) -> list[float]:
    a, b, *tie = target
    return [b, a, *tie]
