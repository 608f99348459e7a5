"""The device's memory, and a limit to it."""

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
