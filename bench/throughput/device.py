"""The device's matrix-product peak, its memory limit, and how much of it is used."""

import statistics
import time
from collections.abc import Callable

import torch

from stages.config.errors import UserError

BOTH_FIT = 70  # GiB of memory from which both paths at full size are loaded side by side


def limit_memory(gib: float, device: torch.device) -> None:
    """Let this process have no more of the GPU's memory than that.

    Raises:
        UserError: there is no GPU, or it has less.
    """
    if device.type == "cpu":
        raise UserError("--memory limits a GPU's memory, and there is no CUDA device here")
    total = total_gib(device)
    if gib > total:
        raise UserError(f"--memory {gib:g}: the GPU has {total:.1f} GiB")
    torch.cuda.set_per_process_memory_fraction(gib / total)  # of the current device


def total_gib(device: torch.device) -> float:
    """The GPU's memory."""
    return torch.cuda.get_device_properties(device).total_memory / 2**30


def both_fit(device: torch.device) -> bool:
    """Whether both paths have room at once; on the CPU, where only tiny ones run, they do."""
    return device.type == "cpu" or total_gib(device) >= BOTH_FIT


def matmul_tflops(device: torch.device, dtype: torch.dtype, repeats: int = 30) -> float:
    """The matrix-product peak in TFLOP/s: the median of square products of random data.

    8192 rows on a GPU, timed by its own events; 512 on a CPU, where it only proves the harness.
    """
    cuda = device.type == "cuda"
    size = 8192 if cuda else 512
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = _by_events if cuda else _by_clock
    times = [seconds(lambda: a @ b) for _ in range(repeats + 10)][10:]
    return 2 * size**3 / statistics.median(times) / 1e12


def _by_events(work: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def _by_clock(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
