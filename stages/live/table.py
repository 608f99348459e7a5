"""The folds that are in training, as a table for the terminal."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table

from stages.training.progress import Progress, read

STOPPED = 24 * 3600  # seconds for which a training that was stopped is still shown
NOTHING = "No fold is in training. `dvc repro` starts them; stages.tune is not shown."
GO_ON = (
    "The command that was stopped, given again, goes on from its last checkpoint if there is one."
)
COLUMNS = ("step", "loss", "validation", "prior", "tokens/s", "left", "memory")


def view(folder: Path) -> RenderableType:
    """What is to be shown now.

    Args:
        folder: of all checkpoints, beside which the trainings' files lie.
    """
    shown = recent(folder)
    if not shown:
        return NOTHING
    stopped = any(not progress.running for progress in shown)
    return Group(_table(shown, time.time()), *([GO_ON] if stopped else []))


def recent(folder: Path) -> list[Progress]:
    """The trainings that run, and those that were stopped within the last day."""
    files = sorted(folder.glob("*.jsonl"), key=_written)
    found = [(read(file), time.time() - _written(file)) for file in files]
    return [each for each, age in found if each and (each.running or age < STOPPED)]


def _written(file: Path) -> float:
    """When a file was last written; it may be gone since it was listed."""
    with suppress(FileNotFoundError):
        return file.stat().st_mtime
    return 0.0


def _table(shown: Sequence[Progress], now: float) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("backbone", overflow="ellipsis")  # which alone gives way
    table.add_column("fold", justify="right", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for progress in shown:
        facts = progress.facts
        table.add_row(facts["checkpoint"]["checkpoint"], str(facts["fold"]), *cells(progress, now))
    return table


def cells(progress: Progress, now: float) -> list[str]:
    """The values of COLUMNS; a dash stands for what is not measured yet.

    Args:
        now: the time, in seconds since 1970.
    """
    prior = f"{progress.facts['prior']:.4f}"
    if not progress.points:
        return ["–", "–", "–", prior, "–", left(progress, now), "–"]
    last = progress.points[-1]
    return [
        f"{last['step']}/{last['steps']}",
        _latest(progress, "training_loss"),
        _latest(progress, "validation_loss"),
        prior,
        f"{last['tokens'] / last['seconds']:,.0f}",
        left(progress, now),
        f"{last['memory_gib']:.1f} GiB",
    ]


def left(progress: Progress, now: float) -> str:
    """How long the training steps still take, at the speed so far; or what else goes on."""
    if not progress.running:
        return "stopped"
    if not progress.points:
        return "starting"
    last = progress.points[-1]
    if last["step"] == last["steps"]:
        return "predicting"
    seconds = last["seconds"] / last["step"] * (last["steps"] - last["step"])
    return duration(max(seconds - (now - last["time"]), 0))


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as clocks show them."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _latest(progress: Progress, name: str) -> str:
    values = [point[name] for point in progress.points if name in point]
    return f"{values[-1]:.4f}" if values else "–"
