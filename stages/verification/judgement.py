"""Whether a run made again bears out the recorded one: a table, the reasons and a sentence."""

import math
from pathlib import Path

from stages.config.paths import LOCK
from stages.verification.differences import Outcome, edited, outcomes, tolerance_for
from stages.verification.reasons import likely_reasons


def judge(
    name: str, recorded: Path, again: Path, ended: bool, tolerance: float | None
) -> tuple[bool, str]:
    """Compare two runs' folders.

    Args:
        name: of the revision.
        ended: whether the pipeline ran to its end again.
        tolerance: of log losses; None as tolerance_for says.

    Returns:
        Whether the record holds, and what to tell the user.
    """
    if tolerance is None:
        tolerance = tolerance_for(recorded, again)
    found = outcomes(recorded, again, tolerance)
    by_hand = edited(recorded)
    wrong = [outcome.stage for outcome in found if not outcome.verified] + by_hand
    reasons = [
        f"{path}: edited since the run wrote it: its MD5 is not {LOCK}'s" for path in by_hand
    ]
    reasons += likely_reasons(recorded, again, found)
    if not ended:
        sentence = f"Not verified: the pipeline of {name} did not run to its end here, see above."
    elif wrong:
        sentence = f"Not verified: run again, {name} differs in {', '.join(wrong)}."
    else:
        sentence = f"Verified: run again from nothing, {name} gives {_what(found, tolerance)}."
    lines = [_table(found), "", *(f"- {reason}" for reason in reasons), sentence]
    return ended and not wrong, "\n".join(lines)


def _what(found: list[Outcome], tolerance: float) -> str:
    if any(outcome.agreement == "within tolerance" for outcome in found):
        return f"the recorded log losses to within {tolerance:g}"
    return "the recorded numbers exactly"


def _table(found: list[Outcome]) -> str:
    """A line a stage: what came of it, and the largest of its gravest differences."""
    return "\n".join(f"{o.stage:14}{o.agreement:18}{_largest(o)}".rstrip() for o in found)


def _largest(outcome: Outcome) -> str:
    unseen = [f"{path} not compared" for path in outcome.unseen]
    if not outcome.differences:
        return "; ".join(unseen)
    largest = max(outcome.differences, key=lambda d: (not d.allowed, d.size))
    size = f"by {largest.size:.2g} in " if math.isfinite(largest.size) else ""
    more = len(outcome.differences) - 1
    return "; ".join([f"{size}{largest.where}{f', and {more} more' if more else ''}", *unseen])
