"""CPU training in bfloat16 against float32, interleaved.

    python -m bench.dtype 3

Trains packed rows of the small llama checkpoint (run `dvc repro weights` once) and prints tokens
per second of each dtype and the median of their ratios. Aim: at least 1.4 where the processor
multiplies bfloat16; elsewhere it is emulated and slower, and `train.dtype: auto` takes float32.
"""

import argparse
import json
import random
import statistics
import time
from pathlib import Path

import torch

from stages.backbones import sources
from stages.config.params import load
from stages.config.root import state
from stages.model.build import build, compute_dtype
from stages.model.packed import logits
from stages.model.packing import pack

CPU = torch.device("cpu")


def main() -> None:
    """Print both rates of each repeat, and the median ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.dtype",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("repeats", type=int, nargs="?", default=3)
    repeats = parser.parse_args().repeats
    params = load()
    record = json.loads(Path("models/weights.json").read_text(encoding="utf-8"))
    weights = sources.fetch(record, params.checkpoint, state())
    tokens = [random.Random(i).choices(range(1000), k=170) for i in range(6)]
    (row,) = pack(tokens, 1024)
    models = {
        name: build(weights, params.train.model_copy(update={"dtype": name}), CPU).train()
        for name in ("float32", "bfloat16")
    }

    def rate(name: str) -> float:
        start = time.perf_counter()
        logits(models[name], row).sum().backward()
        return row.input_ids.shape[1] / (time.perf_counter() - start)

    for name in models:
        rate(name)  # warm-up
    ratios = []
    for _ in range(repeats):
        rates = {name: rate(name) for name in models}
        ratios.append(rates["bfloat16"] / rates["float32"])
        print(", ".join(f"{name} {value:.0f} tokens/s" for name, value in rates.items()))
    chosen = str(compute_dtype("auto", CPU)).removeprefix("torch.")
    print(f"bfloat16/float32, median of {repeats}: {statistics.median(ratios):.2f}; auto: {chosen}")


if __name__ == "__main__":
    main()
