"""What stages.plan expects of runs that were measured on a GPU, beside what they took.

    python -m bench.plan_check

Prints, for each row of MEASURED, the expected and the measured rates and memory, and their ratios;
and the layers recomputed. It needs no GPU. The rows are of bench/THROUGHPUT.md and docs/results:
one H100, real tokens a second, GiB at the peak.
"""

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.throughput.lengths import SHARES, TOKENS
from stages.config.params import Params, load
from stages.planning import published
from stages.planning.devices import GPUS
from stages.planning.memory import GIB, plan_for
from stages.planning.shape import Shape, shape
from stages.planning.speed import Speed, reckon
from stages.planning.work import shapes
from stages.preflight.candidate import Candidate
from stages.training.memory import Plan


@dataclass(frozen=True)
class Measured:
    """A run on an H100.

    Attributes:
        name: of its published shape.
        memory: GiB that it was limited to; None is all.
        max_tokens: where it is not the scale's.
        training, held_out: real tokens a second.
        fp8: whether training's products were in FP8.
        tokens: of the whole training that was measured; else it was steps whose rows had been
            recorded before.
        peak: GiB; recomputed: layers.
    """

    name: str
    scale: str
    objective: str = "classify"
    memory: float | None = None
    training: float | None = None
    held_out: float | None = None
    peak: float | None = None
    recomputed: int | None = None
    max_tokens: int | None = None
    tokens: float | None = None
    fp8: bool = False


MEASURED = [
    Measured("Llama-3.1-8B", "full", training=15_508, held_out=35_743, peak=42.7, recomputed=0),
    Measured("Llama-3.1-8B", "full", training=21_670, held_out=36_357, peak=56.1, fp8=True),
    Measured("Gemma-2-9B", "full", training=11_591, held_out=28_127, peak=56.3, recomputed=0),
    Measured("Qwen2.5-7B", "full", training=16_873, held_out=37_930, peak=41.4, recomputed=0),
    Measured("Qwen3-8B", "full", training=14_512, held_out=32_258),
    Measured("Gemma-3-12B", "full", training=9_107, held_out=22_250),
    Measured("gpt-oss-20b", "full", training=4_759, held_out=14_466),
    Measured("Qwen3.5-9B", "full", training=1_361, held_out=7_851, max_tokens=1024),
    Measured("Llama-3.1-8B", "full", "classify", 24, 12_189, 35_195, 19.2, 20),
    Measured("Gemma-2-9B", "full", "classify", 24, 8_730, 26_999, 18.6, 32),
    # A whole fold with the GPU to itself, on a host that was busy.
    Measured(
        "Gemma-3-270M", "sample", "sft", training=199_452, peak=6.4, recomputed=0, tokens=5_853_426
    ),
    # Of whole folds of an older version only the memory counts.
    Measured("SmolLM2-135M", "sample", "sft", peak=6.4, recomputed=0),
    # Several folds shared the GPU, so only their memory counts.
    Measured("SmolLM2-135M", "sample", "sft", 12.2, peak=6.5, recomputed=0),
    Measured("Qwen2.5-0.5B", "sample", "sft", 9.6, peak=7.8, recomputed=10),
    Measured("Qwen2.5-0.5B", "sample", "sft", 12, peak=9.8, recomputed=6),
]


def main() -> None:
    """Print a line for each row."""
    argparse.ArgumentParser(
        prog="python -m bench.plan_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    print(f"{'':16}{'GiB':>5}{'training':>23}{'inference':>25}{'peak, GiB':>20}  recomputed")
    for row in MEASURED:
        plan, speed = expected(row)
        training, held_out = rates(row, speed)
        known = "" if row.recomputed is None else f", found {row.recomputed}"
        print(
            f"{row.name + ' FP8' * row.fp8:16}{row.memory or GPUS['h100'].memory:5.0f}"
            f"{told(training, row.training, ',.0f'):>23}"
            f"{told(held_out, row.held_out, ',.0f'):>25}"
            f"{told(plan.peak / GIB, row.peak, '.1f'):>20}"
            f"  {plan.recomputed} of {plan.layers}{known}"
        )


def rates(row: Measured, speed: Speed) -> tuple[float, float]:
    """Tokens a second, in training and in inference."""
    params, recording = params_of(row), 0.0
    if row.tokens:
        found = shapes(lengths(params.budget.max_tokens), params, row.tokens)
        recording = found * speed.shape / row.tokens
    return 1 / (speed.training + recording), 1 / speed.held_out


def expected(row: Measured) -> tuple[Plan, Speed]:
    """What a plan says of such a run."""
    params, found = params_of(row), shape_of(row)
    device = GPUS["h100"]
    if row.memory:
        device = replace(device, memory=row.memory)
    kept = lengths(params.budget.max_tokens)
    plan = plan_for(found, params, device)
    span, batch = (kept**2).sum() / kept.sum() / 2, params.budget.batch_size * kept.mean()
    return plan, reckon(found, device, plan, float(span), float(batch), row.fp8)


def params_of(row: Measured) -> Params:
    """params.yaml at its scale and objective."""
    raw = load().model_dump()
    raw["train"] |= {"objective": row.objective, "fp8": row.fp8}
    raw["scale"] = row.scale
    if row.max_tokens:
        raw["scales"][row.scale]["max_tokens"] = row.max_tokens
    return Params.model_validate(raw)


def shape_of(row: Measured) -> Shape:
    """Its published shape."""
    with tempfile.TemporaryDirectory() as folder:
        published.configuration(row.name).save_pretrained(folder)
        return shape(Candidate(Path(folder), row.name, params_of(row)))


def lengths(most: int) -> np.ndarray:
    """Tokens of the bench's examples, cut at so many."""
    return np.minimum(np.interp((np.arange(1000) + 0.5) / 1000, SHARES, TOKENS), most)


def told(expected: float, measured: float | None, form: str) -> str:
    """Both, and their ratio."""
    if measured is None:
        return f"{expected:{form}}"
    return f"{expected:{form}} {measured:{form}} {expected / measured:.2f}"


if __name__ == "__main__":
    main()
