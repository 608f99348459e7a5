"""Training and inference throughput of the stock recipe and of this project's, in one run.

    python -m bench.throughput --backbone gemma --size full --random-weights --out gemma.json

Prints and writes real tokens per second (padding does not count), useful TFLOP/s (4N a token in
training, 2N in inference, N the parameters of the decoder's linear layers), their share of the
matrix-product peak measured in the same run, peak memory and ratios. Both paths get the same
weights and the same examples of arena-like lengths, take turns, and must agree on the loss and the
gradients of a batch, or the exit status is 1. On the CPU only `--size tiny` runs: it tests the
bench. Several GPUs, of which each takes its share of every batch:

    torchrun --standalone --nproc-per-node 2 -m bench.throughput --only project ...
"""

import argparse
import datetime
import json
import statistics
from collections.abc import Mapping
from pathlib import Path

import transformers
import yaml
from pydantic import ValidationError

from bench.throughput import agreement, device, published, tables
from bench.throughput.agreement import Outcome
from bench.throughput.lengths import arena_lengths, batches
from bench.throughput.measure import PATHS, PHASES, Bench, measure, reference, say
from bench.throughput.stock import padded_share
from stages.config.errors import UserError, stage
from stages.config.params import Params, explain, load
from stages.config.versions import versions
from stages.devices import processes
from stages.model.passes import compute_for
from stages.planning.devices import matmul_tflops
from stages.planning.random_weights import linear_parameters
from stages.training.fold import device_name

PARAMS = Path(__file__).resolve().parent.parent.parent / "params.yaml"
SCALES = {"tiny": "smoke", "small": "sample", "full": "full"}
FLOPS = {"training": 4, "inference": 2}  # a parameter and token: a frozen one needs no gradient


@stage
def main() -> None:
    """Measure, print, write, and fail if the paths disagree."""
    args = _parser().parse_args()
    processes.connect()
    transformers.logging.set_verbosity_error()
    bench = prepare(args)
    result = describe(bench, args)
    together = args.only is None and args.memory is None and device.both_fit(bench.device)
    names = [args.only] if args.only else list(PATHS)
    exact = None if args.only else reference(bench)
    paths: dict[str, dict] = {}
    outcomes: dict[str, Outcome] = {}
    for group in [names] if together else [[name] for name in names]:
        measured, computed = measure(group, bench)
        paths, outcomes = paths | measured, outcomes | computed
    result |= {"interleaved": together, "paths": paths, "ratio": ratios(paths)}
    add_flops(result)
    if len(outcomes) == 2:
        result["agreement"] = agreement.compare(
            outcomes["project"], outcomes["stock"], exact, bench.dtype
        )
    say(f"all measured\n\n{tables.table(result)}{tables.profiles(result)}")
    if args.out and processes.rank() == 0:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    require_agreement(result.get("agreement"))
    processes.disconnect()


def prepare(args: argparse.Namespace) -> Bench:
    """What the command line asks for.

    Raises:
        UserError: it cannot be measured here.
    """
    params = override(args)
    compute = compute_for(params, None)
    if compute.device.type == "cpu" and args.size != "tiny":
        raise UserError(
            f"--size {args.size} needs a CUDA device and there is none: here only --size tiny "
            "runs, which tests the bench and measures nothing"
        )
    if params.train.quantization.type == "none" and args.only != "project":
        raise UserError("the stock recipe has a quantised base: add --only project")
    if processes.count() > 1 and args.only != "project":
        raise UserError("only the project's path runs in several processes: add --only project")
    if args.memory:
        device.limit_memory(args.memory, compute.device)
    config = published.configuration(args.backbone, args.size)
    budget = params.budget
    lengths = arena_lengths(args.steps * budget.batch_size, budget.max_tokens)
    return Bench(
        params=params,
        config=config,
        batches=batches(lengths, budget.batch_size, config.vocab_size),
        device=compute.device,
        dtype=compute.dtype,
        rounds=args.rounds,
        profile=args.profile,
    )


def override(args: argparse.Namespace) -> Params:
    """params.yaml at the size's scale, with the values of -S in place of its own."""
    scale = SCALES[args.size]
    raw = load(PARAMS).model_dump()
    changes = [f"scale={scale}", "train.objective=classify", *args.set]
    if args.max_tokens:
        changes.append(f"scales.{scale}.max_tokens={args.max_tokens}")
    for change in changes:
        _set(raw, *change.split("=", 1))
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        problems = "\n".join(f"  {explain(problem)}" for problem in error.errors())
        raise UserError(f"-S or --max-tokens does not fit params.yaml:\n{problems}") from None


def _set(raw: dict, place: str, value: str = "") -> None:
    """Put a value, written as in params.yaml, where the dotted path says."""
    *sections, key = place.split(".")
    for name in sections:
        inner = raw.get(name)
        if not isinstance(inner, dict):
            raise UserError(f"-S {place}: params.yaml has no section {name!r} there")
        raw = inner
    raw[key] = yaml.safe_load(value)


def describe(bench: Bench, args: argparse.Namespace) -> dict:
    """What was measured, where, with what."""
    lengths = [len(ids) for batch in bench.batches for ids in batch.ids]
    result = {
        "checkpoint": published.name(args.backbone, args.size),
        "date": datetime.date.today().isoformat(),
        "device": device_name(bench.device),
        "processes": processes.count(),
        "memory_limit_gib": args.memory,
        "versions": versions(),
        "dtype": str(bench.dtype).removeprefix("torch."),
        "matmul_tflops": matmul_tflops(bench.device, bench.dtype),
        "linear_parameters": linear_parameters(bench.config),
        "train": bench.params.train.model_dump(),
        "budget": bench.params.budget.model_dump(),
        "examples": len(lengths),
        "tokens": sum(lengths),
        "longest": max(lengths),
        "padding_of_stock": {
            phase: padded_share(bench.batches, phase == "inference") for phase in PHASES
        },
    }
    say(
        f"{result['checkpoint']} of random weights on {result['device']}, "
        f"matrix products {result['matmul_tflops']:.3g} TFLOP/s"
    )
    return result


def ratios(paths: Mapping[str, dict]) -> dict[str, float]:
    """The project's rate over the stock recipe's: the median of the rounds' ratios."""
    if len(paths) < 2 or any("error" in path for path in paths.values()):
        return {}
    rounds = {
        phase: zip(*(paths[name][phase]["rounds"] for name in ("project", "stock")), strict=True)
        for phase in PHASES
    }
    return {phase: statistics.median(a / b for a, b in rates) for phase, rates in rounds.items()}


def add_flops(result: dict) -> None:
    """Add useful TFLOP/s, and their share of all GPUs' peak, to what was measured of each path."""
    peak = result["matmul_tflops"] * result["processes"]
    for path in result["paths"].values():
        for phase in PHASES:
            if phase in path:
                found, per_token = path[phase], FLOPS[phase] * result["linear_parameters"]
                found["tflops"] = found["tokens_per_second"] * per_token / 1e12
                found["share_of_peak"] = found["tflops"] / peak


def require_agreement(found: Mapping | None) -> None:
    """Stop with an error if both paths were compared and do not compute the same.

    Raises:
        UserError: they do not.
    """
    if found and not found["same"]:
        raise UserError(
            "the project's path does not compute what the stock recipe does: relative error of the "
            f"loss {found['loss']:.2g}, of the gradients {found['gradients']:.2g}, more than "
            "rounding explains; the rates above are of two different computations"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--backbone", choices=published.BACKBONES, required=True)
    add("--size", choices=published.SIZES, required=True)
    add(
        "--random-weights",
        action="store_true",
        required=True,
        help="of the published shape: the only ones it takes, so that nothing is downloaded",
    )
    add("--max-tokens", type=int, help="of an example; the scale's if not given")
    add("--memory", type=float, metavar="GIB", help="limit the process to that much of the GPU")
    add("--only", choices=list(PATHS), help="measure one path, with all memory to itself")
    add("--rounds", type=int, default=3, help="counted ones; more come first to warm up")
    add("--steps", type=int, default=4, help="optimiser steps of a round")
    add("--profile", action="store_true", help="say where the time goes")
    add("--out", type=Path, metavar="FILE", help="write the measurements as JSON")
    add("-S", "--set", action="append", default=[], metavar="KEY=VALUE", help="as of params.yaml")
    return parser


if __name__ == "__main__":
    main()
