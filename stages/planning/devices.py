"""GPUs that a plan knows, and the device that is here."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from stages.config.errors import UserError
from stages.config.params import nearest


@dataclass(frozen=True)
class Device:
    """What a plan knows of a device.

    Attributes:
        name: as people call it.
        tflops: its matrix products at most, dense, bfloat16 or float16, summed in float32.
        memory: GiB that PyTorch can have.
        bandwidth: of its memory, TB/s.
        packs: whether FlashAttention and recorded passes work, from the A100's generation on.
        here: whether it is the one that this process would use.
    """

    name: str
    tflops: float
    memory: float
    bandwidth: float
    packs: bool = True
    here: bool = False

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return not self.name.startswith("CPU")

    @property
    def hopper(self) -> bool:
        """Whether it is a GPU of the H100's generation."""
        return any(name in self.name for name in ("H100", "H200"))


# Sources: NVIDIA's data sheets of each, without sparsity. GeForce cards sum in float32 at half the
# rate, which is counted here. Memory is what PyTorch shows, which is less than what is sold.
GPUS = {
    "t4": Device("T4", 65, 14.6, 0.32, packs=False),
    "l4": Device("L4", 121, 22.0, 0.30),
    "a10g": Device("A10G", 70, 22.1, 0.60),
    "rtx3090": Device("RTX 3090", 71, 23.6, 0.936),
    "rtx4090": Device("RTX 4090", 165, 23.5, 1.008),
    "l40s": Device("L40S", 362, 44.4, 0.864),
    "a100-40": Device("A100 40 GB", 312, 39.4, 1.555),
    "a100": Device("A100 80 GB", 312, 79.2, 2.039),
    "h100": Device("H100", 989, 79.1, 3.35),
    "h200": Device("H200", 989, 139.8, 4.8),
}
CARDS = {  # how PyTorch names them; the first that occurs
    "T4": "t4",
    "L40S": "l40s",
    "L4": "l4",
    "A10G": "a10g",
    "3090": "rtx3090",
    "4090": "rtx4090",
    "A100-SXM4-40GB": "a100-40",
    "A100-PCIE-40GB": "a100-40",
    "A100": "a100",
    "H100": "h100",
    "H200": "h200",
}


def device_for(asked: str | None) -> Device:
    """The device of that name, or the one that is here.

    Raises:
        UserError: it is not known.
    """
    if asked is None:
        return _gpu_here() if torch.cuda.is_available() else _cpu_here()
    if asked.lower() not in GPUS:
        raise UserError(f"--device: {asked!r} is not known{nearest(asked.lower(), GPUS)}")
    return GPUS[asked.lower()]


def _gpu_here() -> Device:
    """The GPU here, with the peak of its kind, or as measured if its kind is not known."""
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    memory = found.total_memory / 2**30
    packs = found.major >= 8
    known = next((GPUS[key] for part, key in CARDS.items() if part in found.name), None)
    if known:
        return Device(found.name, known.tflops, memory, known.bandwidth, packs, here=True)
    tflops = matmul_tflops(torch.device("cuda"), torch.float16) / REACHED
    return Device(found.name, tflops, memory, tflops / RATIO, packs, here=True)


REACHED = 0.75  # of the data sheet's peak is what a product reaches on an H100
RATIO = 300  # TFLOP/s for each TB/s, as these GPUs have about
CPU_BANDWIDTH = 0.02  # TB/s, of two cores


def _cpu_here() -> Device:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpu = torch.device("cpu")
    tflops = matmul_tflops(cpu, torch.float32) / REACHED
    return Device(
        f"CPU, {torch.get_num_threads()} threads",
        tflops,
        memory,
        CPU_BANDWIDTH,
        packs=False,
        here=True,
    )


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
