"""What a row says about its two answers: probabilities of A, B and a tie, by one person or more."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from stages.votes.rows import BadRow

Target = tuple[float, float, float]
PLAIN: dict[str, Target] = {"a": (1, 0, 0), "b": (0, 1, 0), "tie": (0, 0, 1)}
BOTH_BAD = "both_bad"
# What people call them; data.labels adds others.
WORDS = {
    **dict.fromkeys(("a", "model_a", "response_a", "answer_a", "assistant_a"), "a"),
    **dict.fromkeys(("b", "model_b", "response_b", "answer_b", "assistant_b"), "b"),
    **dict.fromkeys(("tie", "draw", "equal"), "tie"),
    **dict.fromkeys(("both_bad", "tie (bothbad)", "tie (both bad)", "bothbad"), BOTH_BAD),
}
FLAGS = {"true": 1.0, "false": 0.0}
WHOLE = re.compile(r"([+-]?\d+)\.0+")


@dataclass(frozen=True)
class Verdict:
    """One person's vote; a tie may be one of two bad answers."""

    target: Target
    annotator: str | None = None
    both_bad: bool = False


def word(value: object) -> str:
    """A value of a label as a word: without case and spaces, 1.0 and "1.0" as "1"."""
    text = str(value).strip().lower()
    whole = WHOLE.fullmatch(text)
    return whole[1] if whole else text


def by_word(
    name: str, value: object, meanings: Mapping[str, str | Target], annotator: str | None = None
) -> Verdict:
    """The vote of a value that `meanings` names.

    Args:
        meanings: a, b, tie, both_bad, or probabilities of the first three, by word.

    Raises:
        BadRow: it does not.
    """
    meaning = meanings.get(word(value))
    if meaning is None:
        raise BadRow(f"{name} is {value!r:.40}: expected {', '.join(meanings)}")
    if not isinstance(meaning, str):
        return Verdict(meaning, annotator)
    if meaning == BOTH_BAD:
        return Verdict(PLAIN["tie"], annotator, both_bad=True)
    return Verdict(PLAIN[meaning], annotator)


def by_grade(
    name: str, value: object, grades: Mapping[int, float], annotator: str | None = None
) -> Verdict:
    """The vote of a graded preference: below 0 for A, above it for B, 0 for a tie.

    Args:
        grades: the probability of the better answer by how much better it is.

    Raises:
        BadRow: it is no such grade.
    """
    number = word(value)
    grade = int(number) if re.fullmatch(r"[+-]?\d+", number) else None
    if grade == 0:
        return Verdict(PLAIN["tie"], annotator)
    if grade is None or abs(grade) not in grades:
        known = ", ".join(f"-{g} and {g}" for g in sorted(grades))
        raise BadRow(f"{name} is {value!r:.40}: expected 0, {known}, as data.grades has")
    better = grades[abs(grade)]
    target = (better, 1 - better, 0.0) if grade < 0 else (1 - better, better, 0.0)
    return Verdict(target, annotator)


def by_shares(names: tuple[str, ...], values: tuple[object, ...]) -> Verdict:
    """The vote of three columns: one 1 and two 0, or probabilities.

    Raises:
        BadRow: they are not between 0 and 1, or do not sum to 1.
    """
    shares = [_share(value) for value in values]
    known = [share for share in shares if share is not None and 0 <= share <= 1]
    if len(known) < len(values) or abs(sum(known) - 1) > 1e-6:
        found = ", ".join(f"{value!s:.20}" for value in values)
        raise BadRow(f"{', '.join(names)} are {found}: expected one 1 and two 0, or shares of 1")
    total = sum(known)
    a, b, tie = (share / total for share in known)
    return Verdict((a, b, tie))


def _share(value: object) -> float | None:
    text = str(value).strip().lower()
    try:
        return FLAGS[text] if text in FLAGS else float(text)
    except ValueError:
        return None


def label_of(target: Target) -> int:
    """The most probable class, the first of equal ones: 0 for A, 1 for B, 2 for a tie."""
    return target.index(max(target))
