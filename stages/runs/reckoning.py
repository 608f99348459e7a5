"""How long a prediction takes: its tokens, counted, at a speed that a short piece shows."""

import argparse
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from stages.config.errors import UserError
from stages.runs.blended import Model
from stages.runs.parts import PART, Opened, Task, parts_of
from stages.votes.layouts import Row

TIMED = PART  # rows that are predicted to see the speed, about: fewer are slower each
LONG = 1000  # rows from which on a prediction is reckoned unasked


@dataclass(frozen=True)
class Estimate:
    """What one process has to do, and how long that takes.

    Attributes:
        model: what it is called.
        folds: how many models read each row.
        passes: how often a row is read, in words.
        rows: those that it predicts.
        tokens: what it reads of them, in all passes.
        seconds: how long it takes.
    """

    model: str
    folds: int
    passes: str
    rows: int
    tokens: int
    seconds: float


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """The options that a Plan holds, and `folds`, which shortens what it reckons."""
    told = "tell how many tokens there are and how long they take, and write nothing"
    parser.add_argument("--plan", action="store_true", help=told)
    told = "refuse what would take longer, such as 9h, 90m or 1h30m, before it begins"
    parser.add_argument("--within", type=duration, metavar="TIME", help=told)
    told = "of the run's folds take the first so many, not all"
    parser.add_argument("--folds", type=int, metavar="COUNT", help=told)


@dataclass(frozen=True)
class Plan:
    """What the user wants to know before a prediction.

    Attributes:
        only: whether to reckon, and nothing else.
        within: the seconds that it may take; None is any number.
    """

    only: bool
    within: float | None

    def asks(self, rows: int) -> bool:
        """Whether a prediction of so many rows is reckoned."""
        return self.only or self.within is not None or rows >= LONG

    def allows(self, estimates: Sequence[Estimate]) -> bool:
        """Tell the reckoning of all processes; whether to go on.

        Raises:
            UserError: it takes longer than it may.
        """
        seconds = max(each.seconds for each in estimates)
        print(told(estimates, seconds), flush=True)
        if self.within is not None and seconds > self.within:
            raise UserError(_refusal(estimates[0].folds, seconds, self.within))
        return not self.only


def estimate(task: Task, opened: Opened, model: Model, starts: Collection[int]) -> Estimate:
    """Count the tokens of parts of a file, and predict a few of their rows to see the speed.

    Args:
        starts: the numbers of the parts' first rows.
    """
    spread = list(starts)[:: max(1, len(starts) // TIMED)]
    each = max(1, TIMED // max(1, len(spread)))
    rows, tokens = 0, 0
    few: list[Row] = []
    for start, part in parts_of(task.rows(), starts):
        counted = opened.tokens(part)
        rows, tokens = rows + len(part), tokens + int(counted.sum())
        if start in spread:
            few += [row for row, count in zip(part, counted, strict=True) if count][:each]
    seconds = tokens / _speed(opened, few) if few else 0.0
    return Estimate(model.checkpoint, len(model), opened.passes, rows, tokens, seconds)


def _speed(opened: Opened, rows: Sequence[Row]) -> float:
    """Tokens a second."""
    for few in (1, 4):  # a compiler fits the first shape, then any
        opened.frame(rows[:few], 1)
    began = time.perf_counter()
    opened.frame(rows, 1)
    return opened.tokens(rows).sum() / (time.perf_counter() - began)


def told(estimates: Sequence[Estimate], seconds: float) -> str:
    """The reckoning in a line."""
    rows, tokens = (sum(getattr(each, name) for each in estimates) for name in ("rows", "tokens"))
    speed = tokens / seconds if seconds else 0
    processes = f"{len(estimates)} processes" if len(estimates) > 1 else "one process"
    return (
        f"reckoning: {rows:,} rows to read ({estimates[0].passes}) are {tokens:,} tokens; at "
        f"{speed:,.0f} tokens/s, as {processes} computed a few rows, they take {in_words(seconds)}"
    )


def _refusal(folds: int, seconds: float, within: float) -> str:
    share = within / seconds
    fit = int(folds * share)
    fewer = f"--folds {fit} in place of {folds}; " if fit else ""
    return (
        f"--within: expected a prediction that takes at most {in_words(within)}, found "
        f"{in_words(seconds)}. Nothing was predicted. What would fit: {fewer}a run whose "
        f"max_tokens leaves {share:.0%} of the tokens; or GPUs that are {1 / share:.1f} times as "
        "many, by GPUS"
    )


def in_words(seconds: float) -> str:
    """A time as 9 h 5 min, 5 min 3 s or 3 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def duration(text: str) -> float:
    """Seconds of an option's value, such as 9h, 90m, 1h30m or 20s."""
    number = r"(\d+(?:\.\d+)?)"
    found = re.fullmatch(f"(?:{number}h)?(?:{number}m)?(?:{number}s)?", text)
    hours, minutes, seconds = (float(each or 0) for each in (found.groups() if found else "000"))
    if total := 3600 * hours + 60 * minutes + seconds:
        return total
    raise argparse.ArgumentTypeError(f"expected a time such as 9h, 90m or 1h30m, found {text!r}")
