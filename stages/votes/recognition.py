"""Which layout a file has: seen in its columns, and in how its first rows say who won."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from stages.config.errors import UserError
from stages.votes.files import SURPLUS
from stages.votes.layouts import (
    LAYOUTS,
    MAPPED,
    OTHERS,
    PROMPTS,
    Layout,
    Meanings,
    Names,
    Row,
    words,
)
from stages.votes.rows import TURNS, BadRow, blank
from stages.votes.verdicts import Verdict


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
    candidates = _candidates(wanted, mapped or {})
    layouts = {name: _asked(layout, columns) for name, layout in candidates.items()}
    fitting = {
        name: layout
        for name, layout in layouts.items()
        if set(layout.answers) <= set(columns)
        and (not labelled or set(layout.label) <= set(columns))
    }
    if not fitting:
        raise UserError(_unknown(place, list(columns), candidates, labelled))
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


def _asked(layout: Layout, columns: Mapping) -> Layout:
    """The layout with the first of PROMPTS that the file has, unless it asks for other names."""
    there = [names for names in PROMPTS if set(names) <= set(columns)]
    return replace(layout, prompt=there[0]) if layout.prompt == ("prompt",) and there else layout


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
        in_words = any(each.layout.votes is words for each in found)
        advice = "Say in data.labels what the values mean" if in_words else "Mend these values"
        raise UserError(
            f"{place} has the columns of a layout, but its votes cannot be read:\n{told}\n"
            f"{advice}, or say in data.columns which column is the label"
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
