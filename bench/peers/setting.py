"""What is measured: the same for both tools, but for what each chooses for itself."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedConfig

from bench.peers.clock import SETTLING
from bench.throughput import published
from bench.throughput.lengths import Batch, arena_lengths, batches
from stages.config.params import Params, load

PARAMS = Path(__file__).resolve().parent.parent.parent / "params.yaml"
SCALES = {"tiny": "smoke", "full": "full"}
EXAMPLES = 16  # of an optimiser step


@dataclass(frozen=True)
class Setting:
    """The examples, the backbone's shape, and what the command line chose.

    Attributes:
        total: optimiser steps, those in which all settles among them.
    """

    args: Namespace
    params: Params
    config: PreTrainedConfig
    batches: Sequence[Batch]
    total: int

    @property
    def max_tokens(self) -> int:
        """Of an example, and of a packed row."""
        return self.params.budget.max_tokens


def setting(args: Namespace) -> Setting:
    """What the command line asks for, with the LoRA of params.yaml and the scale's lengths."""
    params = load(PARAMS).model_copy(update={"scale": SCALES[args.size]})
    config = published.configuration(args.backbone, args.size)
    total = SETTLING + args.rounds * args.steps
    lengths = arena_lengths(total * EXAMPLES, params.budget.max_tokens)
    return Setting(args, params, config, batches(lengths, EXAMPLES, config.vocab_size), total)


def arguments(chosen: Setting, rows: int, passes: int, folder: str) -> dict:
    """Of a Trainer: so many rows a pass and passes a step, nothing saved and nothing logged."""
    given = {
        "output_dir": folder,
        "max_steps": chosen.total,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": passes,
        "learning_rate": 1e-5,
        "bf16": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    return given if chosen.args.checkpointing else given | {"gradient_checkpointing": False}
