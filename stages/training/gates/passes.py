"""Gates on passes of the real model over a few real votes, by the functions that train and predict.

They see what training will see. All but the first look at the model as `probing` sets it: with
small random weights in adapter and head.
"""

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import load_peft_weights, set_peft_model_state_dict
from torch import Tensor

from stages.model.examples import Examples
from stages.model.head import adapter_parameters, head, head_parameters
from stages.model.passes import Compute, accumulate
from stages.training.checkpoints import writing
from stages.training.gates.gate import Finding, Phase
from stages.training.gates.probe import (
    SAME,
    gradient,
    kept,
    logits_of,
    relative,
    token_ids,
    trained,
)

FIRST, PROBED, LOSS = (
    Phase(),
    Phase(),
    Phase(),
)  # on (model, examples, compute), Trial, (loss, step)
MOVED = 1e-3  # relative; far above float32 rounding, far below what reading another text gives


@dataclass(frozen=True)
class Trial:
    """A probed model, a few examples, and the logits (examples, classes) that it gives them."""

    model: PeftModel
    examples: Examples
    compute: Compute
    logits: Tensor


@FIRST.gate(
    "first_loss",
    "the first loss is not ln 3, or ln 2 without ties, which a zero head gives before an offset; "
    "with `sft`, it is above twice the log of the vocabulary",
    "the head starts at random values instead of zero",
    "labels or logits are in another order or number than A, B, tie",
)
def first_loss(model: PeftModel, examples: Examples, compute: Compute) -> Finding:
    """A zero head knows no class: ln 3 or ln 2. A language-model head is not sure of another."""
    with torch.no_grad():
        ids, classes = token_ids(examples), examples.classes
        loss = accumulate(model, ids, examples.targets, compute, lambda loss: None).item()
    if compute.objective.answers is None:
        even = math.log(classes)
        passed, expected = abs(loss - even) < 1e-3, f"ln {classes} = {even:.4f}"
    else:
        limit = 2 * math.log(head(model).weight.shape[0])
        passed, expected = loss < limit, f"below 2 ln(vocabulary) = {limit:.2f}"
    return Finding(passed, f"{loss:.4f}", expected)


@PROBED.gate(
    "finite",
    "logits are infinite or undefined",
    "float16 overflowed: use `-S train.dtype=bfloat16`, or float32",
    "the checkpoint's weights are broken: delete its folder under .state/weights",
)
def finite(trial: Trial) -> Finding:
    """No overflow in the forward pass."""
    bad = int((~torch.isfinite(trial.logits)).any(dim=1).sum())
    return Finding(bad == 0, f"{bad} examples with infinite or undefined logits", "none")


@PROBED.gate(
    "prompt_read",
    "the prompt does not reach the head",
    "truncation removed the prompt: raise `max_tokens`, check the shares under `prompt`",
    "the token read stands before the prompt",
)
def prompt_read(trial: Trial) -> Finding:
    """Another prompt moves what the head reads."""
    return _part_read(trial, "prompt")


@PROBED.gate(
    "answer_a_read",
    "answer A does not reach the head",
    "truncation removed answer A: raise `max_tokens`, check the shares under `prompt`",
    "the token read stands before answer A",
)
def answer_a_read(trial: Trial) -> Finding:
    """Another answer A moves what the head reads."""
    return _part_read(trial, "a")


@PROBED.gate(
    "answer_b_read",
    "answer B does not reach the head",
    "truncation removed answer B: raise `max_tokens`, check the shares under `prompt`",
    "the token read stands before answer B",
)
def answer_b_read(trial: Trial) -> Finding:
    """Another answer B moves what the head reads."""
    return _part_read(trial, "b")


@PROBED.gate(
    "reload",
    "what is saved is not the model that was trained",
    "the head is not saved with the adapter",
    "the adapter's file is incomplete",
)
def reload(trial: Trial) -> Finding:
    """What is saved, read back into a model whose adapter and head were lost, is the same model."""
    model = trial.model
    lost = trained(model)
    if trial.compute.objective.answers is None:
        lost += head(model).parameters()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), kept(lost):
        with writing("the adapter, to be read back,", Path(folder)):
            model.save_pretrained(folder)
        for parameter in lost:
            parameter.zero_()
        set_peft_model_state_dict(model, load_peft_weights(folder, device="cpu"))
        after = logits_of(model, trial.examples, trial.compute)
    difference = relative(after, trial.logits)
    return Finding(difference < 1e-3, f"{difference:.2g}", "below 0.001")


@PROBED.gate(
    "loss_scale",
    "the gradient depends on how examples are packed",
    "the loss is divided by the rows, or the accumulation steps, and not by the examples",
)
def loss_scale(trial: Trial) -> Finding:
    """A batch gives the same gradient in one row as in a row for each example."""
    compute, targets = trial.compute, trial.examples.targets
    rows = replace(compute, token_budget=1), replace(compute, token_budget=10**9)
    apart, together = (gradient(trial.model, token_ids(trial.examples), targets, c) for c in rows)
    difference, limit = relative(apart, together), 3 * SAME[compute.dtype]
    return Finding(difference < limit, f"{difference:.2g}", f"below {limit:g}")


@PROBED.gate(
    "gradients",
    "a module of adapter or head gets no gradient",
    "gradient checkpointing without input gradients: call enable_input_require_grads",
    "the loss is not finite in half precision",
    "a module of the adapter is not part of the forward pass",
)
def gradients(trial: Trial) -> Finding:
    """Every module of the adapter, and the head, gets a finite gradient that is not zero."""
    model = trial.model
    model.train()
    gradient(model, token_ids(trial.examples), trial.examples.targets, trial.compute)
    named = adapter_parameters(model) | head_parameters(model)
    bad = [n for n, p in named.items() if p.grad is None or not _sound(p.grad)]
    model.eval()
    model.zero_grad(set_to_none=True)
    value = f"{len(bad)} of {len(named)} without" + (f", first {bad[0]}" if bad else "")
    return Finding(bool(named) and not bad, value, "0 without a gradient")


@LOSS.gate(
    "training_loss",
    "the training's loss is infinite or undefined",
    "float16 overflowed: use `-S train.dtype=bfloat16`, or float32",
    "the learning rate is too high: lower lr and head_lr of the backbone",
)
def training_loss(loss: float, step: int) -> Finding:
    """A step's loss is a finite number."""
    return Finding(math.isfinite(loss), f"{loss} at step {step}", "a finite number")


def _part_read(trial: Trial, part: str) -> Finding:
    changed = [
        [replace(round_, **{part: [*getattr(round_, part)[::-1], 0]}) for round_ in rounds]
        for rounds in trial.examples.rounds
    ]
    after = logits_of(trial.model, replace(trial.examples, rounds=changed), trial.compute)
    least = min(relative(*pair) for pair in zip(after, trial.logits, strict=True))
    return Finding(least > MOVED, f"{least:.2g}", f"above {MOVED:g}")


def _sound(grad: Tensor) -> bool:
    return bool(torch.isfinite(grad).all()) and bool(grad.any())
