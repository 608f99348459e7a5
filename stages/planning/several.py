"""What ends sooner on several GPUs: a training on each of them, or each training on all."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

SCALING = 0.98  # a GPU's rate in one training on several: two H100s made 1.96 times the rate of one


@dataclass(frozen=True)
class Several:
    """Hours until all trainings have ended.

    Attributes:
        side_by_side: each GPU takes the next training when it is free.
        together: all GPUs share each training, one after the other.
    """

    gpus: int
    side_by_side: float
    together: float


def several(trainings: Sequence[tuple[float, float]], gpus: int) -> Several:
    """Both ways.

    Args:
        trainings: hours of each before its first step, which no further GPU shortens, and after.
    """
    ends = [0.0] * gpus
    for start, rest in sorted(trainings, key=sum, reverse=True):
        heapq.heapreplace(ends, ends[0] + start + rest)
    shared = sum(start + rest / (gpus * SCALING) for start, rest in trainings)
    return Several(gpus, max(ends), shared)
