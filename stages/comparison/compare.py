"""From finished runs to metrics/comparison.json."""

from collections.abc import Sequence

import numpy as np

from stages.comparison.caveats import caveats
from stages.comparison.entries import Entry, in_entries
from stages.comparison.looks import ONLY, Look
from stages.comparison.pairs import compare_pairs
from stages.comparison.validity import flaws, on_same_rows
from stages.comparison.verdict import DELTA, overall
from stages.comparison.words import look_sentences, overall_sentence
from stages.runs.finished import Result, titles


def compare(results: Sequence[Result], delta: float = DELTA, look: Look = ONLY) -> dict:
    """The verdict on two or more runs, as metrics/comparison.json holds it.

    Args:
        delta: log loss; two backbones nearer than this are equivalent.
        look: which of several planned looks at growing runs this is.
    """
    reasons = flaws(results)
    entries = in_entries(results) if on_same_rows(results) else []
    if len(entries) == 1:
        reasons.append("the runs are one backbone with several seeds: there is nothing to compare")
    pairs = compare_pairs(entries, bool(reasons), delta, look) if len(entries) > 1 else []
    verdict = overall(entries, pairs, bool(reasons))
    return {
        "verdict": verdict,
        "sentence": overall_sentence(verdict, entries, pairs, reasons),
        "reasons": reasons,
        "warnings": [*caveats(results, look), *(w for pair in pairs for w in pair["warnings"])],
        "runs": list(map(_run, results, titles(results))),
        "seeds": {entry.name: _seeds(entry) for entry in entries},
        "pairs": pairs,
        "delta": delta,
        "confidence": look.confidence,
        "look": {
            "number": look.number,
            "of": look.of,
            "level": look.level,
            "sentences": look_sentences(look, verdict, entries),
        },
    }


def _run(result: Result, title: str) -> dict:
    facts = {name: result.metrics[name] for name in ("log_loss", "learned", "n_rows")}
    return {
        "name": result.name,
        "title": title,
        "checkpoint": result.checkpoint,
        **facts,
        "reference": result.reference_title,
        "to_beat": result.to_beat,
        **dict(zip(("gain", "gain_low", "gain_high"), result.gain, strict=True)),
    }


def _seeds(entry: Entry) -> dict:
    losses = [run.metrics["log_loss"] for run in entry.runs]
    spread = float(np.std(losses, ddof=1)) if len(losses) > 1 else None
    return {"runs": [run.name for run in entry.runs], "log_losses": losses, "std": spread}
