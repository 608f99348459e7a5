"""Layouts of votes that people have. One is recognised by its columns and by what its cells say.

A layout is an entry in LAYOUTS: the names that it has for ours, and how it says who won. What cells
hold, texts, lists or messages, is seen in the cells: stages.votes.conversations reads each kind.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from stages.votes.rows import TURNS, WINNERS, blank
from stages.votes.verdicts import WORDS, Verdict, by_grade, by_shares, by_word

# Of their columns: several texts are joined, several labels are several votes.
Names = tuple[str, ...]
Row = Mapping[str, object]
Read = Callable[["Layout", Row, "Meanings"], list[Verdict]]


@dataclass(frozen=True)
class Meanings:
    """What values of labels mean: words, and grades of preference."""

    words: Mapping[str, str | tuple[float, float, float]]
    grades: Mapping[int, float]


def words(layout: "Layout", row: Row, meanings: Meanings) -> list[Verdict]:
    """A vote for each label."""
    known = dict(meanings.words or layout.words)
    several = len(layout.label) > 1
    return [by_word(name, row.get(name), known, name if several else None) for name in layout.label]


def grades(layout: "Layout", row: Row, meanings: Meanings) -> list[Verdict]:
    """A vote with a grade."""
    [name] = layout.label
    return [by_grade(name, row.get(name), meanings.grades)]


def each_grade(layout: "Layout", row: Row, meanings: Meanings) -> list[Verdict]:
    """HelpSteer3: a vote with a grade by each annotator who gave one, if the row has them."""
    single = row.get("individual_preference")
    if not isinstance(single, list) or not single:
        return grades(layout, row, meanings)
    name = "individual_preference"
    scores = [vote.get("score") if isinstance(vote, dict) else vote for vote in single]
    given = [
        by_grade(name, score, meanings.grades, f"annotator{number}")
        for number, score in enumerate(scores, start=1)
        if not blank(score)
    ]
    return given or grades(layout, row, meanings)


def shares(layout: "Layout", row: Row, meanings: Meanings) -> list[Verdict]:
    """One vote of three columns."""
    return [by_shares(layout.label, tuple(row.get(name) for name in layout.label))]


def first(layout: "Layout", row: Row, meanings: Meanings) -> list[Verdict]:
    """The first answer is the chosen one."""
    return [Verdict((1.0, 0.0, 0.0))]


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes:
        about: what it is, for those who look for theirs.
        a, b, prompt: their columns of the answers, or of whole conversations, and of the prompt.
        votes: how a row says who won.
        label: their columns of that.
        words: what values of these columns mean, where votes are words.
        needs_prompt: whether an answer is no whole conversation.
        others: their columns of an id and the like, beside those that every layout may have.
    """

    about: str
    a: str
    b: str
    votes: Read = words
    label: Names = ()
    prompt: Names = ()
    words: Mapping[str, str] = field(default_factory=lambda: WORDS)
    needs_prompt: bool = True
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def answers(self) -> Names:
        """The columns without which it cannot be read, with or without votes."""
        return (*(self.prompt if self.needs_prompt else ()), self.a, self.b)


LAYOUTS = {
    "kaggle": Layout(
        "Kaggle's train.csv: winner_model_a, winner_model_b and winner_tie are 0, 1 or shares",
        *("response_a", "response_b", shares, WINNERS, ("prompt",)),
    ),
    "winner": Layout(
        "two answers and a winner in words, as WSDM's",
        *("response_a", "response_b", words, ("winner",), ("prompt",)),
    ),
    "arena": Layout(
        "the arena's exports (33k, 100k, 140k, expert-5k) and MT-Bench's: two conversations",
        *("conversation_a", "conversation_b", words, ("winner",)),
        needs_prompt=False,
        others={"last": "turn"},
    ),
    "chosen": Layout(
        "chosen and rejected: TRL, UltraFeedback-binarized, Skywork, RewardBench, hh-rlhf",
        *("chosen", "rejected", first),
        prompt=("prompt",),
        needs_prompt=False,
        others={"model_a": "chosen_model", "model_b": "rejected_model"},
    ),
    "helpsteer2": Layout(
        "HelpSteer2's preferences, from -3 for response_1 to 3",
        *("response_1", "response_2", grades, ("preference_strength",), ("prompt",)),
    ),
    "helpsteer3": Layout(
        "HelpSteer3's preferences, from -3 for response1 to 3, a vote for each annotator",
        *("response1", "response2", each_grade, ("overall_preference",), ("context",)),
    ),
    "auto_j": Layout(
        "Auto-J's pairs: label 0, 1, or 2 for a tie",
        *("response 1", "response 2", words, ("label",), ("prompt",)),
        words={"0": "a", "1": "b", "2": "tie"},
    ),
    "pandalm": Layout(
        "PandaLM's pairs with three annotators: 1, 2, or 0 for a tie",
        *("response1", "response2", words, ("annotator1", "annotator2", "annotator3")),
        prompt=("instruction", "input"),
        words={"1": "a", "2": "b", "0": "tie"},
    ),
    "llmbar": Layout(
        "LLMBar's pairs: label 1 or 2",
        *("output_1", "output_2", words, ("label",), ("input",)),
        words={"1": "a", "2": "b"},
    ),
    "shp": Layout(
        "SHP's pairs of comments: labels 1 is for human_ref_A",
        *("human_ref_A", "human_ref_B", words, ("labels",), ("history",)),
        words={"1": "a", "0": "b"},
    ),
    "safe_rlhf": Layout(
        "PKU-SafeRLHF's pairs: better_response_id 0 or 1",
        *("response_0", "response_1", words, ("better_response_id",), ("prompt",)),
        words={"0": "a", "1": "b"},
    ),
    "table": Layout(
        "any table: data.columns names its columns, data.labels says what its label means",
        *("response_a", "response_b", words, ("label",), ("prompt",)),
    ),
}
# What people call the prompt: chosen and rejected answers stand beside all of these.
PROMPTS: tuple[Names, ...] = (
    ("prompt",),
    ("question",),
    ("instruction", "input"),
    ("instruction",),
    ("conversations",),
    ("messages",),
)
# What any of them may have, by our name.
OTHERS: dict[str, Names] = {
    "id": ("id", "idx", "question_id", "prompt_id"),
    "language": ("language",),
    "annotator": ("annotator", "judge", "judge_hash"),
    "model_a": ("model_a",),
    "model_b": ("model_b",),
    "system": ("system", "system_prompt"),
    "last": (),
    "weight": ("weight",),
}
MAPPED = (*TURNS, "label", *(name for name in OTHERS if name != "last"))  # keys of data.columns
# All columns that some layout reads, without those of votes.
ASKED = tuple(
    dict.fromkeys(
        name
        for names in (*(layout.answers for layout in LAYOUTS.values()), *PROMPTS, OTHERS["system"])
        for name in names
    )
)
