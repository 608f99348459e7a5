"""A comparison in words."""

from stages.comparison.entries import Entry
from stages.comparison.looks import ALPHA, Look
from stages.comparison.verdict import best, pairs_of


def pair_sentence(verdict: str, pair: dict, a: Entry, b: Entry, confidence: float) -> str:
    """The verdict on two entries, with what it rests on."""
    winner, loser = (a, b) if pair["difference"] < 0 else (b, a)
    size, n = abs(pair["difference"]), len(a.losses)
    over_votes, over_folds = (
        "{:.4f} to {:.4f}".format(*sorted([abs(found["low"]), abs(found["high"])]))
        for found in (pair, pair["folds"])
    )
    signed = (
        f"log loss of {a.title} minus that of {b.title} {pair['difference']:+.4f}, "
        f"{percent(confidence)} interval {interval(pair['low'], pair['high'])}, over folds "
        f"{interval(pair['folds']['low'], pair['folds']['high'])}, {n} votes"
    )
    return {
        "better": f"{winner.title} is better than {loser.title}: its log loss is lower "
        f"by {size:.4f}, {percent(confidence)} interval {over_votes}, over folds {over_folds}, on "
        f"{n} votes.",
        "equivalent": f"{a.title} and {b.title} are equivalent: {signed}.",
        "undecided": f"Whether {a.title} or {b.title} is better is undecided: {signed}.",
        "invalid": f"{a.title} and {b.title} cannot be compared; for what it is worth, {signed}.",
    }[verdict]


def overall_sentence(
    verdict: str, entries: list[Entry], pairs: list[dict], reasons: list[str]
) -> str:
    """The verdict on all entries; of two, that on their pair."""
    if verdict == "invalid":
        several = f"No verdict, for {len(reasons)} reasons."
        return f"No verdict: {reasons[0]}." if len(reasons) == 1 else several
    if len(pairs) == 1:
        return pairs[0]["sentence"]
    first = best(entries)
    own, loss, n = pairs_of(first, pairs), first.losses.mean(), len(first.losses)
    return {
        "better": f"{first.title} is better than each of the {len(own)} others, at log loss "
        f"{loss:.4f} on {n} votes: {' '.join(pair['sentence'] for pair in own)}",
        "equivalent": f"All {len(entries)} backbones are equivalent on {n} votes.",
        "undecided": f"No backbone is better than each of the others on {n} votes; the lowest log "
        f"loss, {loss:.4f}, is {first.title}'s.",
    }[verdict]


def look_sentences(look: Look, verdict: str, entries: list[Entry]) -> list[str]:
    """Which of several planned looks this was, what it asks for, and whether to go on; if any."""
    if look.of == 1:
        return []
    decided = "It is decided: what is planned beyond this look need not be trained"
    found = {
        "better": decided,
        "equivalent": decided,
        "undecided": "It is not decided yet: go on to the next look",
        "invalid": "It cannot decide: mend what makes the comparison invalid before you go on",
    }
    if look.last:
        found["undecided"] = (
            f"It was the last: further looks would call more than {percent(ALPHA)} of equal "
            "backbones different"
        )
    return [
        f"This was look {look}{_seen(entries)}. A claim at this look needs a p value below "
        f"{look.level:g} and intervals of {percent(look.confidence)}. {found[verdict]}."
    ]


def _seen(entries: list[Entry]) -> str:
    """Of how many folds and seeds a look was, if the runs have the same votes."""
    if not entries:
        return ""
    seeds = min(len(entry.runs) for entry in entries)
    return f", with {entries[0].runs[0].trained_folds} folds and {seeds} seed{'s'[: seeds > 1]}"


def percent(confidence: float) -> str:
    """A confidence or a level in percent."""
    return f"{100 * confidence:.4g} %"


def interval(low: float, high: float) -> str:
    """The ends of an interval, with their signs."""
    return f"[{low:+.4f}, {high:+.4f}]"


def text(comparison: dict) -> str:
    """The runs as a table, the verdict, and what weakens it."""
    looked = comparison["look"]["sentences"]
    return "\n".join([*table(comparison), "", judgement(comparison), *looked, *notes(comparison)])


def judgement(comparison: dict) -> str:
    """The verdict in a line."""
    return f"{comparison['verdict'].upper()}. {comparison['sentence']}"


def table(comparison: dict) -> list[str]:
    """A line for each run."""
    width = max(len(run["title"]) for run in comparison["runs"]) + 2
    lines = [f"{'':{width}}log loss  to beat  gain over that, 95 % interval     learned"]
    for run in comparison["runs"]:
        gain = f"{run['gain']:+.4f} {interval(run['gain_low'], run['gain_high'])}"
        lines.append(
            f"{run['title']:{width}}{run['log_loss']:8.4f} {run['to_beat']:8.4f}  "
            f"{gain:32}  {run['learned']}"
        )
    return lines


def notes(comparison: dict) -> list[str]:
    """What makes a comparison invalid, if that is several things, and what weakens it."""
    reasons = comparison["reasons"] if len(comparison["reasons"]) > 1 else []
    told = [f"  reason: {reason}" for reason in reasons]
    return told + [f"  note: {warning}" for warning in comparison["warnings"]]
