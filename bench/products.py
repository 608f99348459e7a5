"""One matrix product of a layer in FP8 beside the same in bfloat16: time, and error.

    python -m bench.products

Prints, for each size of Llama-3.1-8B's and Gemma-2-9B's layers, how many TFLOP/s a GPU makes of it
in bfloat16, in FP8 with fast sums as training has them, and with exact ones; and how far the result
is off float32, by the rounding and by the sums. 6,144 tokens, random numbers, a second each.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from stages.config.errors import UserError, stage
from stages.model import fp8
from stages.training.gates.probe import relative

TOKENS, SECONDS = 6144, 1.0
SIZES = [(4096, 4096), (1024, 4096), (14336, 4096), (4096, 14336)]  # outputs, inputs: Llama
SIZES += [(4096, 3584), (14336, 3584), (3584, 14336)]  # and Gemma


@stage
def main() -> None:
    """Print a line for each size."""
    argparse.ArgumentParser(
        prog="python -m bench.products",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    if not torch.cuda.is_available():
        raise UserError("bench.products needs a GPU of the H100's generation, and there is none")
    fp8.require(torch.bfloat16, torch.device("cuda"))
    print(f"{'outputs':>8}{'inputs':>8}{'bfloat16':>10}{'fast':>8}{'exact':>8}  rounding, sums")
    for outputs, inputs in SIZES:
        x, dense = (torch.randn(n, inputs, device="cuda").bfloat16() for n in (TOKENS, outputs))
        rates = [2 * TOKENS * outputs * inputs / seconds(f) / 1e12 for f in products(x, dense)]
        print(
            f"{outputs:>8}{inputs:>8}{rates[0]:>10,.0f}{rates[1]:>8,.0f}{rates[2]:>8,.0f}", end=""
        )
        print("  {:.1%}, {:.1%}".format(*errors(x, dense)))


def products(x: Tensor, dense: Tensor) -> list[Callable[[], Tensor]]:
    """The product in bfloat16, in FP8 with fast sums, and with exact ones."""
    (rows, scale), weight = fp8.rounded(x), fp8.weight(dense)

    def in_fp8(fast: bool) -> Tensor:
        scales = scale, weight.forward_scale.T
        settings = {"out_dtype": torch.bfloat16, "use_fast_accum": fast}
        return torch._scaled_mm(rows, weight.forward.T, *scales, **settings)

    return [lambda: x @ dense.T, lambda: in_fp8(True), lambda: in_fp8(False)]


def errors(x: Tensor, dense: Tensor) -> tuple[float, float]:
    """Of the product with fast sums: to float32, and to float32 of the rounded numbers."""
    (rows, scale), weight = fp8.rounded(x), fp8.weight(dense)
    found = products(x, dense)[1]().float()
    exact = x.float() @ dense.float().T
    of_rounded = (rows.float() * scale) @ (weight.forward.float() * weight.forward_scale).T
    return relative(found, exact), relative(found, of_rounded)


def seconds(work: Callable[[], Tensor], batch: int = 20) -> float:
    """Of one call, in the mean of those that a second holds."""
    for _ in range(5):
        work()
    torch.cuda.synchronize()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        for _ in range(batch):
            work()
        torch.cuda.synchronize()
        count += batch
    return (time.perf_counter() - start) / count


if __name__ == "__main__":
    main()
