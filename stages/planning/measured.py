"""How fast a backbone trains and predicts here: a few steps on random weights of its true size.

What the weights are changes neither time nor memory, so nothing has to be fetched. The steps are
those of a training: its way through the backbone, its memory plan, its recorded passes.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedConfig

from stages.config.errors import UserError, out_of_memory
from stages.config.params import Params
from stages.model.build import adapt, compute_dtype
from stages.model.examples import Examples
from stages.model.objective import Objective
from stages.model.passes import Compute, accumulate, class_logits
from stages.model.prompts import Encoded, Round, Template
from stages.planning.memory import ADAM
from stages.planning.random_weights import random_base
from stages.planning.speed import SHAPE, Speed, start
from stages.planning.tokens import CLASSES, Lengths
from stages.training import way
from stages.training.fast import make_fast, repeatable
from stages.training.fold import device_name
from stages.training.memory import Plan

ERROR = {"cuda": 0.1, "cpu": 0.3}  # of the time: steps are few, and a CPU has other work, too
SETTLING = 2  # times that a row's shape is computed before its recorded pass is replayed
FIRST_TOKEN = 1  # 0 is padding to some
STEPS = {"cuda": 3, "cpu": 1}


class Verbatim:
    """A template for examples that are token ids already: one text, or one for each answer."""

    def encode(self, texts: Sequence[list[int]], swapped: bool) -> Encoded:
        first, *second = reversed(texts) if swapped else texts
        return Encoded(first, 0, second[0] if second else None)


def measure(config: PreTrainedConfig, params: Params, lengths: Lengths) -> tuple[Plan, Speed]:
    """Set a backbone up as a training does, and time some steps.

    Args:
        config: of its text.
        lengths: of the votes, of which some are drawn.

    Returns:
        The plan that the training would choose here, with the optimiser's memory; and the speed.
    """
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    objective = _objective(params)
    compute = Compute(
        objective, device, compute_dtype(params.train.dtype, device), params.budget.token_budget
    )
    examples = _examples(lengths, STEPS[device.type] * params.budget.batch_size, objective, config)
    try:
        plan, training, held_out = _tried(config, params, examples, compute)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            f"a few steps need more memory than {device_name(device)} has free: "
            "end what else uses it, take a smaller backbone, or a GPU with more memory"
        ) from None
    finally:
        gc.collect()
        torch.cuda.empty_cache()
    how = "measured here by a few steps, on random weights of the true size"
    shape = SHAPE * plan.layers if cuda else 0.0
    return plan, Speed(training, held_out, shape, start(cuda), ERROR[device.type], how)


def _tried(
    config: PreTrainedConfig, params: Params, examples: Examples, compute: Compute
) -> tuple[Plan, float, float]:
    """The training's plan, and seconds of a token, in training and in prediction."""
    base = random_base(config, params.train, compute.device)
    model = adapt(base, params.train, compute.objective.outputs)
    moments = ADAM * sum(p.numel() for p in model.parameters() if p.requires_grad)
    few = examples.subset(_shortest_middle_longest(examples))
    with repeatable():
        compute, _ = way.choose(model, few, compute, params.train)
        compute, plan, _ = make_fast(model, few, compute, params)
        times = _timed(model, examples, compute, params.budget.batch_size)
    if plan.limit:  # what was found: with weights kept, a step keeps less than the plan expects
        peak = torch.cuda.max_memory_allocated(compute.device)
        plan = replace(plan, peak=peak + moments, limit=plan.limit + moments)
    return plan, *times


def _objective(params: Params) -> Objective:
    """The objective, with some tokens in the place of the answers'."""
    answers = [1, 2, 3] if params.train.objective == "sft" else None
    return Objective(answers, CLASSES, params.train.objective == "reward")


def _examples(
    lengths: Lengths, count: int, objective: Objective, config: PreTrainedConfig
) -> Examples:
    """Random tokens, as long as votes at evenly spaced quantiles, in random order."""
    rng = np.random.default_rng(0)
    shares = (np.arange(count) + 0.5) / count
    sizes = rng.permutation(np.quantile(lengths.kept, shares).round().astype(int))
    rounds = [
        [
            rng.integers(FIRST_TOKEN, config.vocab_size, max(size // objective.texts, 1)).tolist()
            for _ in range(objective.texts)
        ]
        for size in sizes
    ]
    targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(CLASSES, size=count)]
    offsets, ids = np.zeros_like(targets), [str(i) for i in range(count)]
    shown = cast(Sequence[Sequence[Round]], rounds)
    return Examples(ids, shown, targets, np.ones(count), offsets, cast(Template, Verbatim()))


def _shortest_middle_longest(examples: Examples) -> list[int]:
    order = sorted(range(len(examples)), key=lambda i: len(examples.encode(i)))
    return [order[0], order[len(order) // 2], order[-1]]


def _timed(
    model: PeftModel, examples: Examples, compute: Compute, batch_size: int
) -> tuple[float, float]:
    """Seconds of a token, in training and in prediction."""
    starts = range(0, len(examples), batch_size)
    batches = [examples.subset(range(start, start + batch_size)) for start in starts]
    texts = [[t for i in range(len(b)) for t in b.encode(i).texts] for b in batches]
    tokens = sum(len(text) for batch in texts for text in batch)

    def train() -> None:
        model.train()
        for ids, batch in zip(texts, batches, strict=True):
            accumulate(model, ids, batch.targets, compute, Tensor.backward)
        model.zero_grad(set_to_none=True)

    def predict() -> None:
        model.eval()
        for ids in texts:
            class_logits(model, ids, compute)

    return _seconds(train, compute.device) / tokens, _seconds(predict, compute.device) / tokens


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    """Of one time, after others on a GPU, which come to record its passes."""
    for _ in range(SETTLING if device.type == "cuda" else 0):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
