"""A plan in words and tables, as the command prints it and the page shows it."""

from dataclasses import dataclass

CASES = {
    "best": "at best: the fold effect falls with the root of the votes",
    "worst": "at worst: it stays as measured",
}


@dataclass(frozen=True)
class Table:
    """A table of texts: the first column is left-aligned, the others to the right.

    Attributes:
        head: of the columns; rows: a text for each of them.
        notes: sentences below it.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    notes: list[str]


def text(plan: dict) -> str:
    """The whole plan, to be printed.

    Args:
        plan: what metrics/plan.json holds.
    """
    parts = [_aligned(table) for table in tables(plan)]
    return "\n\n".join([opening(plan), *parts, "\n".join(ending(plan))])


def _aligned(table: Table) -> str:
    lines = [table.head, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([f"{table.title}", *shown, *table.notes])


def tables(plan: dict) -> list[Table]:
    """Tokens, memory, hours and power, each as far as it is known."""
    found = [_tokens(plan)]
    if any(each["memory"] for each in plan["backbones"]):
        found += [_memory(plan), _hours(plan)]
    found.append(_power(plan))
    return found


def opening(plan: dict) -> str:
    """What is planned."""
    votes = plan["votes"]
    joined = f", and {votes['joined']:,} more in every training" if votes["joined"] else ""
    reserved = f"; {votes['reserved']:,} are reserved for tuning" if votes["reserved"] else ""
    names = " and ".join(each["checkpoint"] for each in plan["backbones"])
    return (
        f"{names} at scale {plan['scale']}, objective {plan['objective']}: {votes['count']:,} votes in "
        f"{votes['folds']} folds{joined}{reserved}. A fold holds out {votes['held_out']:,}. "
        f"Epochs: {plan['epochs']}; seeds: {plan['seeds']}."
    )


def _tokens(plan: dict) -> Table:
    most, rows, notes = plan["max_tokens"], [], []
    for each in plan["backbones"]:
        found = each["tokens"]
        rows.append(
            [
                each["checkpoint"],
                f"{found['a_vote']:,.0f}",
                f"{found['training']:,}",
                f"{found['held_out']:,}",
                f"{found['truncated']:.1%}",
                f"{found['truncated_at_twice']:.1%}",
                f"{found['times_as_many_at_twice']:.2f}",
            ]
        )
        notes += _counted(each["checkpoint"], found)
    sample = plan["votes"]["sample"]
    if sample:
        error = max(each["tokens"]["error_of_sample"] for each in plan["backbones"])
        notes.insert(
            0,
            f"Counted on {sample:,} votes drawn at random: the tokens of all are known to "
            f"±{2 * error:.1%}.",
        )
    else:
        notes.insert(0, "All votes are counted.")
    passes = "one pass serves both orders" if plan["objective"] == "reward" else "both orders"
    notes.append(f"Held out: {passes}, and the looks after each epoch but the last.")
    head = ["Tokens of a fold", "a vote", "training", "held out", f"cut at {most:,}"]
    return Table("", [*head, f"at {2 * most:,}", "times as many"], rows, notes)


def _counted(name: str, found: dict) -> list[str]:
    if not found["error"]:
        return []
    by = f"the tokenizer of {found['counted_by']}" if found["counted_by"] else "4 characters each"
    return [
        f"The tokenizer of {name} is not here: counted by {by}, which may be {found['error']:.0%} off."
    ]


def _memory(plan: dict) -> Table:
    rows = []
    for each in plan["backbones"]:
        found = each["memory"]
        if not found:
            rows.append([each["checkpoint"], *["–"] * 8])
            continue
        sizes = ("matrices", "other_weights", "adapter", "optimiser", "activations", "peak")
        rows.append(
            [
                each["checkpoint"],
                *(f"{found[size]:.1f}" for size in sizes),
                f"{found['recomputed']} of {found['layers']}",
                f"{found['row_tokens']:,}",
            ]
        )
    device, limit = plan["device"], _limit(plan)
    notes = [
        f"{device['name']} has {device['memory']:.1f} GiB, of which training plans with {limit:.1f}."
    ]
    if any(each["configuration"] not in (None, "its own") for each in plan["backbones"]):
        notes.append("A configuration that is not here is taken from the published ones.")
    head = ["Memory, GiB", "layers' matrices", "other weights", "adapter", "optimiser"]
    return Table("", [*head, "activations", "peak", "recomputed", "tokens a row"], rows, notes)


def _limit(plan: dict) -> float:
    return next(each["memory"]["limit"] for each in plan["backbones"] if each["memory"])


def _hours(plan: dict) -> Table:
    rows, notes = [], {}
    for each in plan["backbones"]:
        found, longer = each["time"], each["time_at_twice_max_tokens"]
        if not found:
            rows.append([each["checkpoint"], *["–"] * (6 if plan["price"] else 5)])
            continue
        rows.append(
            [
                each["checkpoint"],
                _hour(found["training"]),
                _hour(found["held_out"]),
                _hour(found["total"]),
                f"{_hour(found['low'])} to {_hour(found['high'])}",
                _hour(longer["total"]) if longer else "does not fit",
                *([f"{found['cost']:,.2f}"] if plan["price"] else []),
            ]
        )
        notes[found["how"]] = f"The speed is {found['how']}."
    head = ["Hours, all folds and seeds", "training", "held out", "together", "range"]
    head += [f"at {2 * plan['max_tokens']:,} tokens", *(["price"] if plan["price"] else [])]
    more = "Loading, the gates and compiling take some minutes a fold more."
    return Table("", head, rows, [*notes.values(), more])


def _hour(hours: float) -> str:
    return f"{hours:.3f}" if hours < 1 else f"{hours:.1f}"


def _power(plan: dict) -> Table:
    power = plan["power"]
    head = ["Chance that compare finds", *(f"{c['difference']:g}" for c in power["chances"])]
    rows = [
        [words, *(f"{chance[case]:.0%}" for chance in power["chances"])]
        for case, words in CASES.items()
    ]
    effects = power["fold_effects"]
    notes = [
        f"The fold effect, what the training of a fold adds to a difference, is {effects['best']:.4f} "
        f"at best and {effects['worst']:.4f} at worst; docs/verdict.md says how it was measured."
    ]
    return Table("", head, rows, [*notes, *cheapest(plan)])


def cheapest(plan: dict) -> list[str]:
    """The design that was asked for, in a sentence for each case."""
    found = plan["cheapest"]
    if not found:
        return []
    return [_design(found, case) for case in CASES]


def _design(found: dict, case: str) -> str:
    design, start = (
        found[case],
        f"To find {found['difference']:g} in {found['wanted']:.0%} of cases, at {case}",
    )
    if not design:
        return f"{start}: no design does, with {found['most_votes']:,} votes at most."
    hours = f", {_hour(design['hours'])} hours for both backbones" if design["hours"] else ""
    return (
        f"{start}: {design['votes']:,} votes, {design['folds']} folds, seeds: {design['seeds']}"
        f"{hours} (found in {design['chance']:.0%})."
    )


def ending(plan: dict) -> list[str]:
    """What would stop it, and what is not known here."""
    stops = [f"Would stop it: {stop}" for stop in plan["stops"]]
    unknown = [f"Not known here: {each}." for each in plan["unknown"]]
    return [*(stops or ["Nothing is known that would stop it."]), *unknown]
