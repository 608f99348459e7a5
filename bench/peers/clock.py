"""Time the optimiser steps of a `transformers.Trainer`."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from bench.peers.rows import real_tokens

SETTLING = 4  # optimiser steps that do not count: kernels are compiled and chosen in them
START = time.perf_counter()


class Clock(TrainerCallback):
    """When each optimiser step ended, and the real tokens that it took.

    Attributes:
        ends: seconds, one for each step.
        tokens: likewise.
    """

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.tokens: list[int] = []
        self._step: list[Any] = []

    def counting(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The trainer's step of one pass, with what it is given counted."""

        @functools.wraps(work)
        def counted(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self._step.append(real_tokens(inputs))
            return work(model, inputs, *args, **kwargs)

        return counted

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Wait for the GPU and look at the clock."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        self.tokens.append(sum(int(each) for each in self._step))
        self._step = []
        say(f"step {len(self.ends)}: {self.tokens[-1]:,} real tokens")
        if len(self.ends) == SETTLING and torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()


def timed(trainer: Trainer, steps: int) -> dict:
    """Train, and say how fast: tokens per second of each round of so many steps, and the peak."""
    clock = Clock()
    trainer.add_callback(clock)
    trainer.training_step = clock.counting(trainer.training_step)
    trainer.train()
    found = rates(clock.ends, clock.tokens, steps)
    cuda = torch.cuda.is_available()
    return {
        "rounds": found,
        "tokens_per_second": statistics.median(found),
        "tokens_per_step": statistics.mean(clock.tokens[SETTLING:]),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if cuda else None,
    }


def rates(ends: Sequence[float], tokens: Sequence[int], steps: int) -> list[float]:
    """Tokens per second of each round of so many steps, after those in which all settles."""
    return [
        sum(tokens[first : first + steps]) / (ends[first + steps - 1] - ends[first - 1])
        for first in range(SETTLING, len(ends), steps)
    ]


def say(text: str) -> None:
    """Tell what is done now, so that a traceback says what it interrupted."""
    print(f"[{time.perf_counter() - START:5.0f} s] {text}", flush=True)
