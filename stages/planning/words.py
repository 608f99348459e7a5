"""A plan in words and tables, as the command prints it and the page shows it."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.planning.worlds import SAMPLE
from stages.runs.reckoning import in_words

CASES = {"best": "the fold effect falls with the votes", "worst": "it stays as measured"}
UNKNOWN = "–"
WAYS = {  # but for the fast one
    "plain": "is taken to go the plain way, of which one backbone was measured",
    "experts": "has experts, whose layers are not compiled; one such backbone was measured",
}


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        name: tokens, memory, hours or power.
        head: of the columns, the first of which names what the rows are.
        rows: a text for each column.
        notes: sentences below it.
    """

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def text(plan: dict) -> str:
    """The whole plan, to be printed.

    Args:
        plan: what metrics/plan.json holds.
    """
    end = [f"Would stop it: {stop}" for stop in plan["stops"]]
    end = end or ["Nothing is known that would stop it."]
    parts = [_aligned(table) for table in tables(plan)]
    return "\n\n".join([opening(plan), *parts, "\n".join([*end, *unknown(plan)])])


def _aligned(table: Table) -> str:
    lines = [[table.title, *table.head[1:]], *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    ]
    return "\n".join([*shown, *table.notes])


def opening(plan: dict) -> str:
    """What is planned."""
    votes = plan["votes"]
    joined = f", {votes['joined']:,} more in every training" if votes["joined"] else ""
    reserved = f", of which {votes['reserved']:,} are reserved for tuning"
    return (
        f"Scale {plan['scale']}, objective {plan['objective']}: {votes['count']:,} votes"
        f"{reserved if votes['reserved'] else ''}{joined}. {votes['folds']} folds, each of which "
        f"holds out {votes['held_out']:,}. Epochs: {plan['epochs']}. Seeds: {plan['seeds']}."
    )


def unknown(plan: dict) -> list[str]:
    """What is not known here, in sentences."""
    return [f"Not known here: {each}." for each in plan["unknown"]]


def tables(plan: dict) -> list[Table]:
    """Tokens, memory, hours and power, each as far as it is known."""
    found = [_tokens(plan)]
    if any(each["memory"] for each in plan["backbones"]):
        found += [_memory(plan), _hours(plan)]
    return [*found, _power(plan)]


def _tokens(plan: dict) -> Table:
    most, found = plan["max_tokens"], plan["backbones"]
    rows = [
        [
            each["checkpoint"],
            f"{each['tokens']['a_vote']:,.0f}",
            f"{each['tokens']['training']:,}",
            f"{each['tokens']['held_out']:,}",
            f"{each['tokens']['truncated']:.1%}",
            f"{each['tokens']['truncated_at_twice']:.1%}",
            f"{each['tokens']['times_as_many_at_twice']:.2f}",
        ]
        for each in found
    ]
    head = ["", "a vote", "training", "held out", f"cut at {most:,}", f"cut at {2 * most:,}"]
    orders = "in one pass for both orders" if plan["objective"] == "reward" else "in both orders"
    looks = ", and in one order after each epoch but the last" if plan["epochs"] > 1 else ""
    notes = [
        _counted(plan),
        *(note for each in found for note in _by_what(each)),
        f"What a fold holds out is read {orders}{looks}.",
    ]
    return Table("tokens", "Tokens of a fold", [*head, "times the tokens"], rows, notes)


def _counted(plan: dict) -> str:
    sample = plan["votes"]["sample"]
    if not sample:
        return "All votes are counted."
    error = max(each["tokens"]["error_of_sample"] for each in plan["backbones"])
    if sample > plan["votes"]["count"]:  # the scale uses fewer than were counted
        return (
            f"{sample:,} votes of the file are counted, and stand for those that the scale draws; "
            f"their mean may be {2 * error:.1%} off."
        )
    return (
        f"{sample:,} votes, drawn at random, are counted and stand for all; their mean may be "
        f"{2 * error:.1%} off."
    )


def _by_what(backbone: dict) -> list[str]:
    found = backbone["tokens"]
    if not found["error"]:
        return []
    by = f"that of {found['counted_by']}" if found["counted_by"] else "four characters a token"
    return [
        f"The tokenizer of {backbone['checkpoint']} is not here. {by[0].upper()}{by[1:]} counts in "
        f"its place, and may be {found['error']:.0%} off."
    ]


def _memory(plan: dict) -> Table:
    device, found = plan["device"], plan["backbones"]
    sizes = ("matrices", "other_weights", "adapter", "optimiser", "activations", "peak")
    rows = [
        [
            each["checkpoint"],
            *(f"{each['memory'][size]:.1f}" for size in sizes),
            f"{each['memory']['recomputed']} of {each['memory']['layers']}",
            f"{each['memory']['row_tokens']:,}",
        ]
        if each["memory"]
        else [each["checkpoint"], *[UNKNOWN] * 8]
        for each in found
    ]
    limit = next(each["memory"]["limit"] for each in found if each["memory"])
    notes = [
        f"{device['name']} has {device['memory']:.1f} GiB; training plans with {limit:.1f}. "
        "A layer that is recomputed keeps its input alone.",
        *_without_flash(device),
        *(
            f"The configuration of {each['checkpoint']} is not here; that of "
            f"{each['configuration']} is taken, as published."
            for each in found
            if each["configuration"] not in (None, "its own")
        ),
    ]
    head = ["", "matrices", "other weights", "adapter", "optimiser", "activations", "peak"]
    return Table("memory", "Memory, GiB", [*head, "recomputed", "tokens a row"], rows, notes)


def _without_flash(device: dict) -> list[str]:
    if device["packs"] or device["name"].startswith("CPU"):
        return []
    return [
        f"{device['name']} has no FlashAttention: its attention needs more memory than is counted."
    ]


def _hours(plan: dict) -> Table:
    priced, found = plan["price"] is not None, plan["backbones"]
    rows = [
        [
            each["checkpoint"],
            *_times(each["time"]),
            _told(each["time_at_twice"]["total"]) if each["time_at_twice"] else "does not fit",
            *([_money(each["time"])] if priced else []),
        ]
        if each["time"]
        else [each["checkpoint"], *[UNKNOWN] * (6 + priced)]
        for each in found
    ]
    head = [
        "",
        "start",
        "training",
        "held out",
        "together",
        "range",
        f"at {2 * plan['max_tokens']:,} tokens",
    ]
    notes = [
        *sorted({f"The speed is {each['time']['how']}." for each in found if each["time"]}),
        *(f"{each['checkpoint']} {WAYS[each['way']]}." for each in found if each["way"] in WAYS),
        "The start of a fold is its loading, gates and compiling; large backbones take longer.",
        *([_several(plan["several"])] if plan["several"] else []),
    ]
    title = "Time of all folds and seeds"
    return Table("hours", title, [*head, *(["price"] if priced else [])], rows, notes)


def _several(found: dict) -> str:
    """How several GPUs end all trainings soonest."""
    gpus, apart, together = found["gpus"], found["side_by_side"], found["together"]
    ways = [
        (apart, f"with a training on each: `dvc queue start -j {gpus}`"),
        (together, f"with all of them on each training in turn: `GPUS={gpus}` before the command"),
    ]
    (first, way), (second, other) = sorted(ways, key=lambda each: each[0])
    told = f"{_told(first)} {way}; and in {_told(second)} {other}"
    return f"{gpus} such GPUs end all trainings in {told}."


def _times(time: dict) -> list[str]:
    ends = f"{_told(time['low'])} to {_told(time['high'])}"
    return [*(_told(time[part]) for part in ("start", "training", "held_out", "total")), ends]


def _money(time: dict) -> str:
    return f"{time['cost_low']:,.2f} to {time['cost_high']:,.2f}"


def _told(hours: float) -> str:
    return in_words(hours * 3600)


def _power(plan: dict) -> Table:
    power = plan["power"]
    head = ["", *(f"{each['difference']:g}" for each in power["chances"])]
    named = cases(plan)
    rows = [
        [words, *(f"{each[case]:.0%}" for each in power["chances"])]
        for case, words in named.items()
    ]
    effects = power["fold_effects"]
    size = (
        f"{effects['best']:.4f} in the first line, {effects['worst']:.4f} in the second"
        if len(named) > 1
        else f"{effects['worst']:.4f} on {SAMPLE:,} votes, and on fewer it may be larger"
    )
    notes = [
        f"The fold effect is what the training of a fold adds to a difference: {size}. "
        "docs/verdict.md says how it was measured.",
        *([_design(plan["cheapest"], *case) for case in named.items()] if plan["cheapest"] else []),
    ]
    return Table("power", "Chance that compare finds a difference", head, rows, notes)


def cases(plan: dict) -> dict[str, str]:
    """What may be true of the fold effect, in words; one thing where it was measured on as many."""
    effects = plan["power"]["fold_effects"]
    falls = effects["best"] < effects["worst"]
    return CASES if falls else {"worst": "the fold effect is as measured"}


def _design(found: dict, case: str, words: str) -> str:
    """The cheapest design that was asked for, in a sentence."""
    design = found[case]
    start = f"To find {found['difference']:g} in {found['wanted']:.0%} of cases, if {words}: "
    if not design:
        return f"{start}no design does with {found['most_votes']:,} votes at most."
    cost = f", {_told(design['hours'])} for both backbones" if design["hours"] else ""
    return (
        f"{start}{design['votes']:,} votes, {design['folds']} folds, seeds: {design['seeds']}"
        f"{cost}."
    )
