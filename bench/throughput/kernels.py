"""Where the time goes: a profile's kernels, grouped."""

import re
import time
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

# Of a GPU kernel's name, or of an operator's on the CPU; the first that matches counts. Inductor's
# Triton templates (tem) are FlexAttention: its matrix products are the library's. Of eager
# attention the softmax is among the pointwise kernels, and the products among the matrix products.
GROUPS = {
    "dequantisation": r"dequant|kgemm_4bit",
    "attention": r"flash|fmha|sdpa|flex|attention|triton_tem",
    "matrix products": r"gemm|nvjet|cutlass|cublas|xmma|splitk|aten::(mm|addmm_?|bmm|baddbmm)$",
    "norms and pointwise": r"triton_|elementwise|reduce|softmax|norm|copy|memcpy|memset|"
    r"multi_tensor|cat|index|gather|scatter|fill|^aten::",
}
OTHER = "other"


def group(kernel: str) -> str:
    """The group of a kernel."""
    matches = (name for name, said in GROUPS.items() if re.search(said, kernel, re.IGNORECASE))
    return next(matches, OTHER)


def profiled(work: Callable[[], None], device: torch.device, top: int = 15) -> dict:
    """Shares of the kernels' time by group, the longest kernels, and the share of time they fill.

    Returns:
        `seconds` of wall time, `busy` (kernels' time over it), `host` (the time until the host had
        asked for all of it, over it: 1 where the GPU waits for the host), `groups` and `top`.
    """
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as session:
        start = time.perf_counter()
        work()
        host = time.perf_counter() - start
        if cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    wanted = DeviceType.CUDA if cuda else DeviceType.CPU
    attribute = "self_device_time_total" if cuda else "self_cpu_time_total"
    spent = {  # microseconds
        event.key: (getattr(event, attribute), event.count)
        for event in session.key_averages()
        if event.device_type == wanted and not event.is_user_annotation
    }
    total = sum(time for time, _ in spent.values())
    groups = dict.fromkeys([*GROUPS, OTHER], 0.0)
    for kernel, (time_, _) in spent.items():
        groups[group(kernel)] += time_ / total
    longest = sorted(spent, key=lambda kernel: -spent[kernel][0])[:top]
    return {
        "seconds": seconds,
        "busy": total / 1e6 / seconds,
        "host": host / seconds,
        "groups": groups,
        "top": [
            {"kernel": k, "group": group(k), "share": spent[k][0] / total, "calls": spent[k][1]}
            for k in longest
        ],
    }
