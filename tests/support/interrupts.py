"""What SIGINT does in a process that a test starts, however the tests themselves were started."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sigint(ignored: bool = False) -> Iterator[None]:
    """Processes that are started meanwhile end by SIGINT, or ignore it, as after a script's `&`."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
