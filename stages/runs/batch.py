"""Working through a file, in this process or in one for each of several GPUs.

Several share out the file's parts, and each keeps what it has done. Nothing is exchanged between
them meanwhile. So a part is the same whoever works on it, and a file goes on with another number of
processes than it began with.
"""

import ctypes
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from tqdm.auto import tqdm

from stages.config.errors import UserError
from stages.config.root import state
from stages.devices import gpus
from stages.devices.launch import PR_SET_PDEATHSIG
from stages.runs.blended import load_model, models_of
from stages.runs.parts import PART, Task, part_files, parts_of, work_through
from stages.runs.reckoning import Estimate, Plan, estimate
from stages.votes.layouts import Row

ENDED = (EOFError, ConnectionResetError)  # what a pipe says whose process is no more


@dataclass(frozen=True)
class Job:
    """What every process needs to know.

    Attributes:
        folder: of the model.
        folds: how many of its folds are taken; None is all.
        kept: the folder of the parts.
        total: rows of the file.
    """

    task: Task
    folder: Path
    folds: int | None
    kept: Path
    total: int

    @property
    def files(self) -> dict[int, Path]:
        """The file of each part, by the number of its first row."""
        return part_files(self.kept, self.total)

    def missing(self) -> list[int]:
        """The numbers of the first rows of the parts that are not kept yet."""
        return [start for start, file in self.files.items() if not file.exists()]

    def left(self) -> int:
        """The rows of these parts."""
        return sum(min(PART, self.total + 1 - start) for start in self.missing())

    def progress(self) -> tqdm:
        """A bar of all rows, on which those of the kept parts are done."""
        done = self.total - self.left()
        return tqdm(total=self.total, initial=done, desc=self.task.doing, unit="row")


def work_out(job: Job, plan: Plan) -> str | None:
    """Work on all parts that are not kept yet, on as many GPUs as the variable GPUS says.

    Returns:
        The model in words; None if the plan was only to reckon.

    Raises:
        UserError: it takes longer than the plan allows, the model cannot be used, there are fewer
            GPUs, or a process ended before its parts were there.
    """
    count = gpus.wanted()
    if count == 1:
        return _alone(job, plan)
    with gpus.taken(count, state() / "gpus"):
        return _together(job, plan, os.environ[gpus.VISIBLE].split(","))


def _alone(job: Job, plan: Plan) -> str | None:
    model = load_model(job.folder, job.folds)
    opened, starts = job.task.opened(model), job.missing()
    if plan.asks(job.left()) and not plan.allows([estimate(job.task, opened, model, starts)]):
        return None
    with job.progress() as bar:
        for rows in work_through(job.task, opened, starts, job.files):
            bar.update(rows)
    return f"{model.checkpoint}, {models_of(len(model))}"


# Several processes


@dataclass(frozen=True)
class Worker:
    """A process with a GPU of its own, and the pipe to it."""

    process: SpawnProcess
    pipe: Connection

    def estimate(self) -> Estimate:
        """What it says before it begins; raises what stopped it."""
        try:
            said = self.pipe.recv()
        except ENDED:
            raise UserError(f"{self.end()} before it began") from None
        if isinstance(said, UserError):
            raise said
        return said

    def failed(self) -> bool:
        """Whether it has ended before its work; waits for its end."""
        self.process.join()
        return self.process.exitcode != 0

    def end(self) -> str:
        """How it ended, in words."""
        self.process.join()
        code = self.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
        return f"{self.process.name} {how}"


def _together(job: Job, plan: Plan, devices: Sequence[str]) -> str | None:
    shares = deal(_lengths(job.task.rows(), job.missing()), len(devices))
    with _started(job, shares, devices) as workers:
        estimates = [worker.estimate() for worker in workers]
        if not plan.allows(estimates):
            return None
        for worker in workers:
            with suppress(BrokenPipeError):  # it was killed meanwhile, which is told below
                worker.pipe.send("go")
        _follow(job, workers)
    return f"{estimates[0].model}, {models_of(estimates[0].folds)}"


def _lengths(rows: Iterable[Row], starts: Sequence[int]) -> dict[int, int]:
    """The characters of each part, by the number of its first row."""
    return {
        start: sum(len(str(cell)) for row in part for cell in row.values())
        for start, part in parts_of(rows, set(starts))
    }


def deal(lengths: Mapping[int, int], count: int) -> list[list[int]]:
    """Deal parts by their lengths, the longest first, there and back: 0, 1, 1, 0, 0, 1, …

    Returns:
        The parts of each process that has some, in the order of the file; one process if none has.
    """
    shares: list[list[int]] = [[] for _ in range(count)]
    turns = itertools.cycle([*range(count), *reversed(range(count))])
    for part in sorted(lengths, key=lambda part: -lengths[part]):
        shares[next(turns)].append(part)
    return [sorted(share) for share in shares if share] or [[]]


@contextmanager
def _started(
    job: Job, shares: Sequence[Sequence[int]], devices: Sequence[str]
) -> Iterator[list[Worker]]:
    """Processes, each with a share and a device; none is left behind."""
    spawn = multiprocessing.get_context("spawn")  # CUDA cannot be used in forks
    with ExitStack() as stack:
        workers = []
        for number, (share, device) in enumerate(zip(shares, devices, strict=False), start=1):
            here, there = spawn.Pipe()
            name = f"process {number} of {len(shares)}"
            process = spawn.Process(target=_work, args=(job, share, number, there), name=name)
            os.environ[gpus.VISIBLE] = device  # which it takes over
            process.start()
            there.close()  # so that the pipe ends with the process
            stack.callback(process.join)
            stack.callback(process.kill)
            workers.append(Worker(process, here))
        yield workers


def _follow(job: Job, workers: Sequence[Worker]) -> None:
    """Show the progress until all have ended; see `work_out`."""
    failed = []
    working: dict[object, Worker] = {worker.pipe: worker for worker in workers}
    with job.progress() as bar:
        while working:
            for ready in wait([worker.pipe for worker in working.values()]):
                try:
                    said = working[ready].pipe.recv()
                except ENDED:
                    worker = working.pop(ready)
                    said = UserError(worker.end()) if worker.failed() else 0
                if isinstance(said, UserError):
                    failed.append(str(said))
                else:
                    bar.update(said)
    if job.missing():
        raise UserError(
            f"{'; '.join(failed)}. {job.left()} of {job.total} rows are missing; the others are "
            "kept: give the same command again, and it goes on with these"
        )


def _work(job: Job, share: Sequence[int], number: int, pipe: Connection) -> None:
    """What such a process does: it says what it has to do, waits, and says what it has done."""
    if sys.platform == "linux":
        # Else it would go on, on a GPU that is free to take, once the first process was killed.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process is interrupted, and ends it
    with ExitStack() as stack:
        if number > 1:  # what all of them would say, one says
            stack.enter_context(redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        try:
            model = load_model(job.folder, job.folds)
            opened = job.task.opened(model)
            pipe.send(estimate(job.task, opened, model, share))
            pipe.recv()
            for rows in work_through(job.task, opened, share, job.files):
                pipe.send(rows)
        except UserError as error:
            pipe.send(error)
