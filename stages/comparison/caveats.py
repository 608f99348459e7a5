"""What weakens a comparison without making it invalid."""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from stages.comparison.entries import (
    beside_of,
    prompt_of,
    seeds_together,
    teacher_of,
    train_of,
)
from stages.comparison.looks import Look
from stages.comparison.words import interval
from stages.runs.finished import Result
from stages.scoring.baselines import TITLES

Both = tuple[Sequence[Result], Sequence[Result]]  # the seeds of two backbones
TOKENS = 1.5  # tokenizers of two families differ by less on the same votes


def caveats(results: Sequence[Result], look: Look) -> list[str]:
    """On each run, on all of them, and on each two backbones as trained."""
    told = [
        f"whether {r.name} ({r.checkpoint}) has learned is undecided: its gain over the "
        f"{r.reference_title} is {r.gain[0]:+.4f}, interval {interval(*r.gain[1:])}"
        for r in results
        if r.metrics["learned"] == "undecided"
    ]
    told += [
        f"{r.name} is a blend of {len(r.members)} run{'s'[: len(r.members) > 1]}, and costs what "
        "they cost together"
        for r in results
        if r.members
    ]
    told += _unplanned(results[0], look) + _beaten(results)
    trained = [result for result in results if not result.members]
    for first, other in combinations(seeds_together(trained), 2):
        told += _other_params(first[0], other[0]) + _other_tokens(first[0], other[0])
        told += _other_ranks(first, other)
    return told


def _unplanned(result: Result, look: Look) -> list[str]:
    """Whether folds are left that may be trained, and looked at, later."""
    if look.of > 1 or len(result.params["split"]["folds"]) == result.dealt:
        return []
    return [
        f"{result.trained_folds} folds were trained: this verdict counts if no more are to be "
        "trained. If more may follow, plan the looks beforehand and give --look"
    ]


def _beaten(results: Sequence[Result]) -> list[str]:
    """Whether a baseline without a language model is as good as the best run."""
    best = min(results, key=lambda r: r.metrics["log_loss"])
    name, loss = min(best.metrics["baselines"].items(), key=lambda item: item[1])
    if loss > best.metrics["log_loss"]:
        return []
    return [
        f"every run is behind a baseline without a language model: {TITLES[name]} has "
        f"{loss:.4f}; the best run, {best.name}, has {best.metrics['log_loss']:.4f}"
    ]


def _other_params(first: Result, other: Result) -> list[str]:
    a, b = (_settings(run.params) for run in (first, other))
    changed = {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}
    if "train.select" in changed:  # of which only one reads train.inner
        changed.discard("train.inner")
    if not changed:
        return []
    told = ", ".join(
        f"{key} is {_written(a.get(key, 'not set'))} and {_written(b.get(key, 'not set'))}"
        for key in sorted(changed)
    )
    return [f"{first.name} and {other.name} were not trained alike: {told}"]


def _written(value: object) -> str:
    """As params.yaml has it."""
    return str(value).lower() if isinstance(value, bool | np.bool_) else str(value)


def _settings(params: dict) -> dict[str, object]:
    """What every backbone is trained with, by dotted name, but for what may differ."""
    trained = {"prompt": prompt_of(params), "train": train_of(params)}
    trained |= {"teacher": teacher_of(params)}
    flat = pd.json_normalize(trained | {"data": {"auxiliary": beside_of(params)}}).iloc[0]
    names = ("objective", "seed", "way", "log_steps", "save_steps")
    may_differ = [f"train.{name}" for name in names]
    return flat.drop(may_differ, errors="ignore").to_dict()


def _other_tokens(first: Result, other: Result) -> list[str]:
    """Whether one run saw many more tokens than its tokenizer explains."""
    seen = [run.metrics["tokens_seen"] for run in (first, other)]
    if max(seen) <= TOKENS * min(seen):
        return []
    return [
        f"{first.name} was trained on {seen[0]:,} tokens, {other.name} on {seen[1]:,}: more than "
        "tokenizers explain"
    ]


def _other_ranks(first: Sequence[Result], other: Sequence[Result]) -> list[str]:
    """Whether two backbones rank otherwise by another loss than that of the verdict, over seeds.

    Training losses tell nothing. Calibrated, one that is too sure gains most.
    """
    both = first, other
    judged = _means(both, lambda run: run.metrics["log_loss"])
    training = _means(both, _final_training_loss)
    calibrated = _means(both, lambda run: run.metrics["log_loss_calibrated"])
    told = []
    if _rank_otherwise(training, judged):
        told.append(
            f"training loss and validation loss rank {_named(both)}: training "
            f"{_each(both, training)}, out of fold {_each(both, judged)}; only the latter counts"
        )
    if _rank_otherwise(judged, calibrated):
        told.append(
            f"log loss as trained and calibrated rank {_named(both)}: as trained "
            f"{_each(both, judged)}, calibrated {_each(both, calibrated)}; the verdict is on the "
            "former, and predictions are calibrated"
        )
    return told


def _means(both: Both, loss: Callable[[Result], float]) -> list[float]:
    return [float(np.mean([loss(run) for run in runs])) for runs in both]


def _rank_otherwise(losses: list[float], others: list[float]) -> bool:
    return (losses[0] - losses[1]) * (others[0] - others[1]) < 0


def _named(both: Both) -> str:
    counts = [len(runs) for runs in both]
    seeds = f", means of {counts[0]} and {counts[1]} seeds" * (sum(counts) > 2)
    return f"{both[0][0].name} and {both[1][0].name} differently{seeds}"


def _each(both: Both, losses: list[float]) -> str:
    return " and ".join(f"{v:.4f} ({runs[0].name})" for runs, v in zip(both, losses, strict=True))


def _final_training_loss(result: Result) -> float:
    """The mean over folds of the last tenth of what was logged."""
    logged = [curve.training_loss.dropna() for curve in result.curves]
    return float(np.mean([loss.tail(max(1, len(loss) // 10)).mean() for loss in logged]))
