"""The rule of the verdict: better, equivalent, undecided or invalid.

A claim needs both intervals: the bootstrap over prompt groups takes the trained models as they are,
the corrected t interval over folds lets training itself vary. bench/error_rates.py tests the error
rates of that rule, and docs/verdict.md explains it.
"""

from stages.comparison.entries import Entry
from stages.comparison.looks import ALPHA, ONLY

DELTA = 0.005  # log loss; two backbones nearer than this are equivalent in practice
CONFIDENCE = ONLY.confidence  # of a comparison that is made once
# Below this difference training noise decides: three seeds or no claim (Bouthillier et al. 2021,
# Accounting for Variance in Machine Learning Benchmarks).
NOISE, SEEDS = 0.01, 3


def decide(
    pair: dict, a: Entry, b: Entry, invalid: bool, delta: float, level: float
) -> tuple[str, list[str]]:
    """The verdict on two entries, from all that bears on it.

    Args:
        pair: difference (log loss of a minus that of b), low, high, folds and p_value_holm.
        invalid: whether the comparison is, whatever the numbers.
        level: of this look; the intervals have the confidence 1 - level.

    Returns:
        The verdict, and why a claim that the intervals would bear is not made.
    """
    if invalid:
        return "invalid", []
    claim = by_intervals(pair, pair["folds"], pair["p_value_holm"], delta, level)
    winner = a if pair["difference"] < 0 else b
    if claim == "better" and winner.learned != "yes":
        doubt = f"no claim for {winner.name}: that it has learned at all is not shown"
        return "undecided", [doubt]
    size, seeds = abs(pair["difference"]), min(len(a.runs), len(b.runs))
    if claim != "undecided" and too_few_seeds(size, seeds):
        doubt = (
            f"three seeds or no claim: {a.name} and {b.name} differ by {size:.4f}, less than "
            f"{NOISE:g}, and {seeds} seed{'s'[: seeds > 1]} of each was run (-S train.seed=…)"
        )
        return "undecided", [doubt]
    return claim, []


def too_few_seeds(size: float, seeds: int) -> bool:
    """Whether a difference of that size asks for more seeds than were run."""
    return size < NOISE and seeds < SEEDS


def by_intervals(
    primary: dict, folds: dict, p_value: float, delta: float, level: float = ALPHA
) -> str:
    """The claim that two intervals of a difference bear, each a dict with low and high.

    Args:
        level: the intervals have the confidence 1 - level.

    Returns:
        `equivalent` if both lie within ±delta, `better` if both lie on one side of 0 and the p
        value, adjusted for other pairs, is below the level; else `undecided`.
    """
    intervals = primary, folds
    if all(-delta < i["low"] and i["high"] < delta for i in intervals):
        return "equivalent"
    apart = all(i["high"] < 0 for i in intervals) or all(i["low"] > 0 for i in intervals)
    return "better" if apart and p_value < level else "undecided"


def overall(entries: list[Entry], pairs: list[dict], invalid: bool) -> str:
    """The verdict on all entries, from those on their pairs.

    Returns:
        `better` if the best is better than each of the others, `equivalent` if all are.
    """
    if invalid:
        return "invalid"
    if all(pair["verdict"] == "better" for pair in pairs_of(best(entries), pairs)):
        return "better"
    return "equivalent" if all(p["verdict"] == "equivalent" for p in pairs) else "undecided"


def best(entries: list[Entry]) -> Entry:
    """The one of the lowest log loss."""
    return min(entries, key=lambda entry: entry.losses.mean())


def pairs_of(entry: Entry, pairs: list[dict]) -> list[dict]:
    """Those that an entry is in."""
    return [pair for pair in pairs if entry.name in (pair["a"], pair["b"])]
