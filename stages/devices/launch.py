"""One training in several processes of one machine: starting them, and being one of them."""

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from stages.config.errors import UserError

PR_SET_PDEATHSIG = 1  # of Linux's prctl.h
TOLD = 10  # seconds in which the first process says what stops them all


def launch(arguments: Sequence[str], count: int) -> None:
    """As `torchrun --standalone --nproc-per-node COUNT ARGUMENTS`.

    Raises:
        SystemExit: a process failed, and has said why.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        run(parse_args(["--standalone", f"--nproc-per-node={count}", *arguments]))
    except ChildFailedError:
        raise SystemExit(1) from None


@contextmanager
def joined() -> Iterator[None]:
    """In a process that torchrun started: end with it, and let each machine's first one speak."""
    if sys.platform == "linux":
        # Else it would go on, on GPUs that are free to take once the launcher was killed.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.environ["LOCAL_RANK"] == "0":
        yield
        return
    os.environ["TQDM_DISABLE"] = "1"
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        try:
            yield
        except (UserError, RuntimeError):
            time.sleep(TOLD)  # if the first has the same error, torchrun ends this one meanwhile
            raise
