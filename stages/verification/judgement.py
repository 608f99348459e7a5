"""Whether a run made again bears out the recorded one: a table, the reasons and a sentence."""

import math
from pathlib import Path

from stages.config.paths import LOCK
from stages.verification.differences import Stage, compare, edited, tolerance_for
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
    stages = compare(recorded, again, tolerance)
    by_hand = edited(recorded)
    wrong = [stage.name for stage in stages if not stage.verified] + by_hand
    reasons = [
        f"{path}: edited since the run wrote it: its MD5 is not {LOCK}'s" for path in by_hand
    ]
    reasons += likely_reasons(recorded, again, stages)
    if not ended:
        sentence = f"Not verified: the pipeline of {name} did not run to its end here, see above."
    elif wrong:
        sentence = f"Not verified: run again, {name} differs in {', '.join(wrong)}."
    else:
        sentence = f"Verified: run again from nothing, {name} gives {_what(stages, tolerance)}."
    lines = [_table(stages), "", *(f"- {reason}" for reason in reasons), sentence]
    return ended and not wrong, "\n".join(lines)


def _what(stages: list[Stage], tolerance: float) -> str:
    if any(stage.result == "within tolerance" for stage in stages):
        return f"the recorded log losses to within {tolerance:g}"
    return "the recorded numbers exactly"


def _table(stages: list[Stage]) -> str:
    """A line a stage: what came of it, and the largest of its gravest differences."""
    return "\n".join(f"{s.name:14}{s.result:18}{_largest(s)}".rstrip() for s in stages)


def _largest(stage: Stage) -> str:
    unseen = [f"{path} not compared" for path in stage.unseen]
    if not stage.differences:
        return "; ".join(unseen)
    largest = max(stage.differences, key=lambda d: (not d.allowed, d.size))
    size = f"by {largest.size:.2g} in " if math.isfinite(largest.size) else ""
    more = len(stage.differences) - 1
    return "; ".join([f"{size}{largest.where}{f', and {more} more' if more else ''}", *unseen])
