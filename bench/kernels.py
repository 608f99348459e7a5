"""Which attention kernel each kind of attention takes in bfloat16 on this GPU, and how exactly.

    python -m bench.kernels [--processes N]

A tiny checkpoint for each goes through loading, all gates and one fold, as in bench.architectures.
What is printed is the table in docs/gpus.md.
"""

import argparse
import multiprocessing
import tempfile
from functools import partial
from pathlib import Path

import torch

from bench.architectures import tiny
from bench.architectures.quiet import quiet
from bench.architectures.trial import fold, params, silence
from stages.config.errors import UserError
from stages.model.attention import FLEX, PACKED, VARLEN

LATENT = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
CASES: dict[str, tuple[str, dict[str, int]]] = {
    **{f"heads of {size}": ("llama", {"head_dim": size}) for size in (64, 80, 96, 128, 256)},
    "keys of 192, values of 128": ("minicpm3", LATENT),
    "the same, and experts": ("deepseek_v3", LATENT),
    "sliding window, heads of 128": ("mistral", {"head_dim": 128}),
    "sliding windows, heads of 256": ("gemma3_text", {"head_dim": 256}),
    "soft-capping, heads of 256": ("gemma2", {"head_dim": 256}),
    "sinks": ("granite_swa", {"head_dim": 64}),
    "sinks, and experts": ("gpt_oss", {"head_dim": 64}),
}
KERNELS = {VARLEN: "FlashAttention", FLEX: "FlexAttention", PACKED: "this project's own, plain"}
HEAD = """| attention | model type | kernel | way | distance | at most | compiled | recorded |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.kernels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--objective", default="classify", choices=["classify", "sft"])
    parser.add_argument("--processes", type=int, default=1, help="cases tried at one time")
    arguments = parser.parse_args()
    print(HEAD, flush=True)
    context = multiprocessing.get_context("spawn")
    with context.Pool(arguments.processes) as pool:
        for line in pool.imap(partial(row, objective=arguments.objective), CASES, chunksize=1):
            print(line, flush=True)


def row(case: str, objective: str) -> str:
    """A case's line of the table."""
    quiet()
    torch.set_num_threads(1)
    model_type, sizes = CASES[case]
    with tempfile.TemporaryDirectory() as checkpoint, tempfile.TemporaryDirectory() as folder:
        tiny.make(model_type, Path(checkpoint), **sizes)
        try:
            with silence():
                found = fold(Path(checkpoint), params(objective, "bfloat16", "auto"), Path(folder))
        except UserError as error:
            return f"| {case} | {model_type} | refused: {' '.join(str(error).split())} |"
    gate = next(gate for gate in found["gates"] if gate["name"] == "as_transformers")
    most = gate["expected"].removeprefix("at most ").removesuffix(", by rounding")
    speed = ("yes" if found[name] else "no" for name in ("compiled", "recorded"))
    kernel = KERNELS.get(found["attention"], found["attention"])
    cells = [case, model_type, kernel, found["way"], gate["value"], most, *speed]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
