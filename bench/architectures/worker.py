"""A process that tries model types one after another, and is started again if one takes it down."""

import contextlib
import gc
import multiprocessing
from multiprocessing.connection import Connection

import torch

from bench.architectures.quiet import quiet
from bench.architectures.trial import COMBINATIONS, Outcome, outcomes

LONGEST = 120.0  # seconds for one type


class Worker:
    """Tries a model type in another process."""

    def __init__(self) -> None:
        self._start()

    def __call__(self, model_type: str) -> list[Outcome]:
        """The type's outcomes; those of a process that died or hung are defects."""
        try:
            self._pipe.send(model_type)
            if self._pipe.poll(LONGEST):
                return self._pipe.recv()
            words = f"no end after {LONGEST:g} s"
        except (EOFError, OSError):
            self._process.join()
            words = f"the process ended with exit code {self._process.exitcode}"
        self.stop()
        self._start()
        return [Outcome("defect", words)] * len(COMBINATIONS)

    def stop(self) -> None:
        """End the process, which ends by itself unless it hangs."""
        self._pipe.close()
        self._process.join(1)
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other,), daemon=True)
        self._process.start()
        other.close()


def _serve(pipe: Connection) -> None:
    torch.set_num_threads(1)
    quiet()
    gc.freeze()  # else each fold looks through all that was imported
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            pipe.send(outcomes(pipe.recv()))
