"""Train one fold and predict its held-out battles: the core, free of DVC and MLflow."""

import platform
import resource
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from peft import PeftModel
from transformers import AutoTokenizer, PreTrainedTokenizerBase, TrainerCallback

from stages.config.params import Params
from stages.counting.features import count_features
from stages.counting.offset import Offset, fold_offsets
from stages.devices import processes
from stages.model import flash4, fp8
from stages.model.examples import Examples, tokenize
from stages.model.passes import Compute, compute_for
from stages.model.prompts import Template, template_for
from stages.training import beside, way
from stages.training.checkpoints import last_checkpoint
from stages.training.fast import make_fast, repeatable
from stages.training.gates import order
from stages.training.gates.gate import Gate
from stages.training.selection import Selection, split
from stages.training.soft_targets import votes_alone
from stages.training.trainer import PackedTrainer, both_orders, loss_of
from stages.votes.labels import LABELS, targets_of

CURVES = {  # what the Trainer calls them, and what we do
    "loss": "training_loss",
    "eval_loss": "validation_loss",
    "learning_rate": "lr",
    "grad_norm": "grad_norm",
}


@dataclass(frozen=True)
class Trained:
    """What a fold leaves behind.

    Attributes:
        predictions: id, tokens, tokens_dropped and the logits of both orders.
        curves: step, epoch, training_loss, validation_loss, lr, grad_norm; and inner_loss, where
            the best epoch is kept.
        summary: gates, cost and facts of the run, as JSON holds them.
        offset: what was added to the logits, if anything.
    """

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    predictions: pd.DataFrame
    curves: pd.DataFrame
    summary: dict
    offset: Offset | None


@repeatable()
def train_fold(
    weights: Path,
    training: pd.DataFrame,
    held_out: pd.DataFrame,
    params: Params,
    folder: Path,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trained:
    """Train on one frame of battles and predict the other in both orders.

    Args:
        weights: the checkpoint, a folder in transformers' layout.
        training, held_out: id, group, source, training_only, prompt, response_a, response_b (lists
            of turns), targets and weight; as stages.votes.labels.with_classes leaves them.
        folder: where checkpoints are kept; the newest whole one is taken up again.
        callbacks: transformers', which see the training go on and may end it by an exception.

    Raises:
        GateFailed: the run cannot learn, or went wrong.
    """
    transformers.set_seed(params.train.seed)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    classes = targets_of(training).shape[1]
    training, inner = split(training, params)
    template = template_for(tokenizer, params, classes)
    examples, validation, offset = _read(training, held_out, template, params.train.offset)
    truth = dict(zip(training.id, targets_of(training), strict=True))
    passed = order.before_loading(examples, validation, truth)
    compute = _compute(params, tokenizer, classes)
    few = a_few(examples)
    model, compute, expected = way.load(weights, few, compute, params.train)
    passed += order.before_training(model, few, compute, params.quantised)
    compute, plan, fast = make_fast(model, few, compute, params, examples.tokens)
    passed += fast + way.same(model, few, compute, expected)
    print(f"{len(passed)} gates passed: {', '.join(gate.name for gate in passed)}")
    print(f"memory: {plan}")
    selection = None if inner is None else Selection(_inner(inner, template, offset), folder)
    trainer = PackedTrainer(model, examples, validation, compute, params, folder, selection)
    _train(trainer, folder, callbacks)
    kept = trainer.restore_best()
    passed += order.after_training(model)
    logits = both_orders(model, validation, compute)
    curves = _curves(trainer, loss_of(logits["ab"], validation))
    summary = _facts(model, trainer, compute, examples, validation) | {
        **_outcome(passed, curves),
        **({"kept": kept} if kept else {}),
        "memory": str(plan),
        "offset": offset is not None,
    }
    return Trained(model, tokenizer, _predictions(validation, logits), curves, summary, offset)


def _compute(params: Params, tokenizer: PreTrainedTokenizerBase, classes: int) -> Compute:
    """How the training computes.

    Raises:
        UserError: the params ask for what cannot be had here.
    """
    compute = compute_for(params, tokenizer, classes)
    if params.train.attention == "flash4":
        flash4.require(compute.dtype, compute.device)
    if params.train.fp8:
        fp8.require(compute.dtype, compute.device)
    return compute


def _read(
    training: pd.DataFrame, held_out: pd.DataFrame, template: Template, with_offset: bool
) -> tuple[Examples, Examples, Offset | None]:
    """Both frames as the model sees them, and the offset that is added to their logits."""
    offset, unseen, own = None, None, beside.offsets(training)
    if with_offset:
        mine = beside.own_votes(training)
        offset, counted, unseen = fold_offsets(votes_alone(training[mine]), held_out)
        own[mine] += counted
        own[~mine] += offset.of(count_features(training[~mine]))
        print(f"offset: length and format, fitted on {mine.sum()} votes, added to the logits")
    return tokenize(training, template, own), tokenize(held_out, template, unseen), offset


def _inner(inner: pd.DataFrame, template: Template, offset: Offset | None) -> Examples:
    """The votes that choose the epoch, as the model sees them."""
    return tokenize(inner, template, offset.of(count_features(inner)) if offset else None)


def _train(trainer: PackedTrainer, folder: Path, callbacks: Sequence[TrainerCallback]) -> None:
    """From the newest whole checkpoint, if there is one."""
    for callback in callbacks:
        trainer.add_callback(callback)
    checkpoint = last_checkpoint(folder)
    processes.agree(checkpoint and checkpoint.name, "checkpoint")
    if checkpoint:
        print(f"going on from step {checkpoint.name.removeprefix('checkpoint-')}")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def a_few(examples: Examples) -> Examples:
    """The gates' material: the shortest example, one of usual length, and the longest.

    They differ in length, so that padding shows; the longest has the most to truncate.
    """
    by_length = sorted(range(len(examples)), key=lambda i: sum(map(len, examples.rounds[i])))
    return examples.subset([by_length[0], by_length[len(by_length) // 2], by_length[-1]])


def _curves(trainer: PackedTrainer, final_loss: float) -> pd.DataFrame:
    names = dict(CURVES)
    last = [{"step": trainer.state.max_steps, "eval_loss": final_loss}]
    if trainer.selection:  # which has measured the last epoch, and kept this or another
        names["inner_loss"], last = "inner_loss", []
    history = pd.DataFrame([*trainer.state.log_history, *last]).reindex(columns=["step", *names])
    curves = history.groupby("step", as_index=False).first().rename(columns=names)
    curves = curves[curves[list(names.values())].notna().any(axis=1)]
    curves.insert(1, "epoch", curves.step / trainer.steps_per_epoch)
    return curves


def _outcome(passed: list[Gate], curves: pd.DataFrame) -> dict:
    names = [gate.name for gate in passed]
    return {
        "compiled": "compiled" in names,
        "recorded": "recorded" in names,
        "first_loss": float(curves.training_loss.dropna().iloc[0]),
        "gates": [asdict(gate) for gate in passed],
    }


def _predictions(validation: Examples, logits: dict[str, np.ndarray]) -> pd.DataFrame:
    encoded = [validation.encode(i) for i in range(len(validation))]
    frame = pd.DataFrame(
        {
            "id": pd.array(validation.ids, dtype="string"),
            "tokens": np.array([len(e) for e in encoded], dtype=np.int32),
            "tokens_dropped": np.array([e.dropped for e in encoded], dtype=np.int32),
        }
    )
    for shown, values in logits.items():
        for name, column in zip(LABELS, values.T, strict=False):
            frame[f"{shown}_{name}"] = column
    return frame


def _facts(
    model: PeftModel,
    trainer: PackedTrainer,
    compute: Compute,
    examples: Examples,
    validation: Examples,
) -> dict:
    encoded = [validation.encode(i) for i in range(len(validation))]
    tokens_seen = len(trainer.steps) // trainer.steps_per_epoch * examples.tokens
    dropped = [e.dropped for e in encoded]
    return {
        "examples": len(examples),
        "classes": examples.classes,
        "steps": trainer.state.max_steps,
        "tokens_seen": tokens_seen,
        "train_seconds": trainer.seconds,
        "tokens_per_second": tokens_seen / trainer.seconds,
        "peak_memory_gib": max(processes.gather(peak_memory(compute.device))),
        "dtype": str(compute.dtype).removeprefix("torch."),
        "device": device_name(compute.device),
        "processes": processes.count(),
        "attention": model.config._attn_implementation,
        "way": compute.way,
        "truncated_share": statistics.fmean(d > 0 for d in dropped),
        "tokens_dropped_share": sum(dropped) / sum(len(e) + e.dropped for e in encoded),
        "adapter_norm": sum(
            p.norm().item() ** 2 for n, p in model.named_parameters() if "lora_B" in n
        )
        ** 0.5,
    }


def peak_memory(device: torch.device) -> float:
    """The most memory in use so far, in GiB: of the device, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def device_name(device: torch.device) -> str:
    """The processor, as reports name it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu: {_cpu()}, {torch.get_num_threads()} threads"


def _cpu() -> str:
    """The model of the CPU: another one rounds otherwise."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
