"""Layouts of votes that people have. One is recognised by its columns and by what its cells say.

A layout is an entry in LAYOUTS: the names that it has for ours, and how it says who won. What cells
hold, texts, lists or messages, is seen in the cells: stages.votes.conversations reads each kind.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stages.config.errors import UserError
from stages.votes.files import SURPLUS
from stages.votes.rows import TURNS, WINNERS, BadRow, blank
from stages.votes.verdicts import WORDS, Verdict, by_grade, by_shares, by_word

Names = tuple[
    str, ...
]  # of their columns: several texts are joined, several labels are several votes
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
    """HelpSteer3: a vote with a grade by each annotator, if the row has them."""
    single = row.get("individual_preference")
    if not isinstance(single, list) or not single:
        return grades(layout, row, meanings)
    name = "individual_preference"
    scores = [vote.get("score") if isinstance(vote, dict) else vote for vote in single]
    return [
        by_grade(name, score, meanings.grades, f"annotator{number}")
        for number, score in enumerate(scores, start=1)
    ]


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
# What any of them may have, by our name.
OTHERS: dict[str, Names] = {
    "id": ("id", "idx", "question_id", "prompt_id"),
    "language": ("language",),
    "annotator": ("annotator", "judge", "judge_hash"),
    "model_a": ("model_a",),
    "model_b": ("model_b",),
    "system": ("system", "system_prompt"),
    "last": (),
    "weight": (),
}
MAPPED = (*TURNS, "label", *(name for name in OTHERS if name != "last"))  # keys of data.columns


@dataclass(frozen=True)
class Found:
    """The layout of a file, and where its other columns are; of several names, those it has."""

    name: str
    layout: Layout
    others: Mapping[str, str]
    meanings: Meanings

    def votes(self, row: Row) -> list[Verdict]:
        """The votes of a row.

        Raises:
            BadRow: it does not say who won.
        """
        return self.layout.votes(self.layout, row, self.meanings)

    def other(self, row: Row, name: str) -> str | None:
        """A text of another column; None where there is none."""
        value = row.get(self.others[name]) if name in self.others else None
        return None if isinstance(value, (list, dict)) or blank(value) else str(value)


def recognise(
    sample: Sequence[Row],
    place: str,
    meanings: Meanings,
    wanted: str = "auto",
    mapped: Mapping[str, Names] | None = None,
    labelled: bool = True,
) -> Found:
    """The layout of a file.

    Args:
        sample: its first rows.
        place: of the file, for errors.
        wanted: the name of a layout; auto finds it.
        mapped: their columns by our names, as data.columns has them.
        labelled: whether a row has to say who won.

    Raises:
        UserError: no layout fits, or several do.
    """
    columns = {name: None for row in sample for name in row if name != SURPLUS}
    _check_mapped(mapped or {}, columns, place)
    layouts = _candidates(wanted, mapped or {})
    fitting = {
        name: layout
        for name, layout in layouts.items()
        if set(layout.answers) <= set(columns)
        and (not labelled or set(layout.label) <= set(columns))
    }
    if not fitting:
        raise UserError(_unknown(place, list(columns), layouts, labelled))
    found = [
        Found(name, layout, _others(layout, columns, mapped or {}), meanings)
        for name, layout in fitting.items()
    ]
    return _only(found, sample, place) if labelled else _least(found, place)


def _check_mapped(mapped: Mapping[str, Names], columns: Mapping, place: str) -> None:
    """Raise a UserError if data.columns names what is not there, or too much."""
    if unknown := set(mapped) - set(MAPPED):
        raise UserError(
            f"data.columns: {', '.join(sorted(unknown))} is no column of ours: "
            f"expected some of {', '.join(MAPPED)}"
        )
    for name, theirs in mapped.items():
        if len(theirs) != 1 and (name not in ("prompt", "label") or not theirs):
            raise UserError(f"data.columns: {name} has {len(theirs)} columns: expected one")
        if missing := [column for column in theirs if column not in columns]:
            raise UserError(
                f"data.columns: {name} is {', '.join(missing)}, which {place} does not have: "
                f"found the columns {_told(columns)}"
            )


def _told(columns: Iterable[str]) -> str:
    return ", ".join(f"{name:.40}" for name in columns) or "of no rows"


def _candidates(wanted: str, mapped: Mapping[str, Names]) -> dict[str, Layout]:
    if wanted not in LAYOUTS and wanted != "auto":
        raise UserError(f"data.format: {wanted!r} is not known: expected auto or {_known()}")
    essential = set(mapped) & {*TURNS, "label"}
    chosen = ("table" if essential else "auto") if wanted == "auto" else wanted
    names = LAYOUTS if chosen == "auto" else [chosen]
    return {name: _renamed(LAYOUTS[name], mapped) for name in names}


def _renamed(layout: Layout, mapped: Mapping[str, Names]) -> Layout:
    if "prompt" in mapped:
        layout = replace(layout, prompt=mapped["prompt"], needs_prompt=True)
    if "label" in mapped:
        layout = replace(layout, label=mapped["label"])
    a, b = (mapped.get(name, (None,))[0] for name in ("response_a", "response_b"))
    return replace(layout, a=a or layout.a, b=b or layout.b)


def _others(layout: Layout, columns: Mapping, mapped: Mapping[str, Names]) -> dict[str, str]:
    found = {}
    for name, known in OTHERS.items():
        names = mapped.get(name) or (layout.others.get(name, ""), *known)
        there = [theirs for theirs in names if theirs in columns]
        if there:
            found[name] = str(there[0])
    return found


def _only(found: list[Found], sample: Sequence[Row], place: str) -> Found:
    """The one layout whose votes can be read in at least half of the sample."""
    reasons = {each.name: _reasons(each, sample) for each in found}
    fitting = [each for each in found if len(reasons[each.name]) <= len(sample) / 2]
    if not fitting:
        told = "\n".join(f"  {name}: {reasons[0]}" for name, reasons in reasons.items())
        raise UserError(
            f"{place} has the columns of a layout, but its votes cannot be read:\n{told}\n"
            "Say in data.labels what the values mean, or in data.columns which column is the label"
        )
    if len(fitting) > 1:
        names = ", ".join(each.name for each in fitting)
        raise UserError(f"{place} can be read as {names}: say in data.format as which")
    if fitting[0].meanings.words and fitting[0].layout.votes is not words:
        raise UserError(
            f"{place} is read as {fitting[0].name}, whose votes are no words, so that data.labels "
            "would mean nothing: empty it, or name the column of the label in data.columns"
        )
    return fitting[0]


def _reasons(found: Found, sample: Sequence[Row]) -> list[str]:
    """Why votes of the sample cannot be read."""
    reasons = []
    for row in sample:
        try:
            found.votes(row)
        except BadRow as error:
            reasons.append(str(error))
    return reasons


def _least(found: list[Found], place: str) -> Found:
    """The layout of a file without votes: those that fit must read the same columns."""
    read = {each.layout.answers for each in found}
    if len(read) > 1:
        names = ", ".join(each.name for each in found)
        raise UserError(f"{place} can be read as {names}: leave out the columns of all but one")
    return found[0]


def _unknown(place: str, columns: list[str], layouts: Mapping[str, Layout], labelled: bool) -> str:
    needed = "\n".join(
        f"  {name}: {', '.join((*layout.answers, *(layout.label if labelled else ())))}"
        for name, layout in layouts.items()
    )
    return (
        f"{place} has no known layout: found the columns "
        f"{_told(columns)}; expected one of\n"
        f"{needed}\n"
        "Name its columns in data.columns and, if its label is none of model_a, model_b, tie, say "
        "in data.labels what the values mean; or take another data.format"
    )


def _known() -> str:
    return ", ".join(LAYOUTS)
