"""Training throughput of TRL or of unsloth, on the lengths and with the LoRA of bench.throughput.

    python -m bench.peers --peer trl --task sft --backbone llama --size full --out trl.json

Prints and writes real tokens per second (padding does not count) of each round of optimiser steps,
their median, and peak memory; weights are random. The loss is of the last token only, an answer's,
or of a class. Each tool packs, checkpoints and attends as it does by default, and TRL by
FlashAttention 4. On the CPU only `--size tiny` runs, and of unsloth only `sft`: it tests the bench.
"""

import argparse
import datetime
import importlib
import importlib.util
import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from stages.config.arguments import count
from stages.config.errors import UserError, stage

MODULES = {"trl": "bench.peers.sft_trl", "unsloth": "bench.peers.fast_unsloth"}
INSTALL = {
    "trl": "pip install trl bitsandbytes flash-attn-4 'nvidia-cutlass-dsl[cu13]'",
    "unsloth": "pip install unsloth",
}
PACKAGES = ["torch", "transformers", "peft", "trl", "bitsandbytes"]


@stage
def main() -> None:
    """Measure, print and write."""
    args = _parser().parse_args()
    peer = find(args)
    import torch  # after the peer: unsloth patches what it finds unimported

    from bench.peers.clock import say, timed
    from bench.peers.setting import setting

    gpu = torch.cuda.is_available()
    if not gpu and args.size != "tiny":
        raise UserError(f"--size {args.size} needs a CUDA device and there is none")
    chosen = setting(args)
    with tempfile.TemporaryDirectory() as folder:
        trainer, computed = peer.trainer(chosen, folder)
        say("training")
        measured = timed(trainer, args.steps)
    result = {
        "command": {key: str(value) for key, value in vars(args).items()},
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name() if gpu else "CPU",
        "versions": {name: version(name) for name in {args.peer: 0} | dict.fromkeys(PACKAGES)},
        "max_tokens": chosen.max_tokens,
        **computed,
        **measured,
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def find(args: argparse.Namespace) -> ModuleType:
    """The module that runs the peer.

    Raises:
        UserError: the peer is not installed, or has nothing for the task.
    """
    if args.peer == "trl" and args.task == "classification":
        raise UserError(
            "--peer trl has no trainer for classes: people take transformers' own, which "
            "`python -m bench.throughput` measures as `stock`; give --task sft"
        )
    if importlib.util.find_spec(args.peer) is None:
        raise UserError(
            f"--peer {args.peer} needs the package {args.peer}, which is not installed here: "
            f"{INSTALL[args.peer]} (in an environment of its own: it wants other versions)"
        )
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched: weights are random
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", tempfile.mkdtemp())
    return importlib.import_module(MODULES[args.peer])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--peer", choices=list(MODULES), required=True)
    add("--task", choices=["sft", "classification"], required=True)
    add("--backbone", choices=["llama", "gemma"], required=True)
    add("--size", choices=["tiny", "full"], required=True)
    add("--attention", help="transformers' name of an implementation; the peer's if not given")
    add("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    add("--rows", type=count, help="rows of a pass; 3 packed ones of TRL, 4 examples of unsloth")
    add("--rounds", type=count, default=3, help="counted ones; four steps come first to warm up")
    add("--steps", type=count, default=3, help="optimiser steps of a round")
    add("--out", type=Path, metavar="FILE", help="write the measurements as JSON")
    return parser


if __name__ == "__main__":
    main()
