"""How passes are made fast on the device at hand: layers compiled, memory used, passes recorded."""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from peft import PeftModel
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InductorError

from stages.config.errors import UserError
from stages.config.params import Params
from stages.model import graphs
from stages.model.attention import FLEX
from stages.model.examples import Examples
from stages.model.layers import compile_layers, plain_layers
from stages.model.lora import keep_fp8
from stages.model.passes import Compute
from stages.model.stock import stacked_experts
from stages.training import memory
from stages.training.gates import speed
from stages.training.gates.gate import Gate, GateFailed
from stages.training.gates.probe import gradient, one_pass, probing, relative, token_ids


def make_fast(
    model: PeftModel, few: Examples, compute: Compute, params: Params, tokens: float = math.inf
) -> tuple[Compute, memory.Plan, list[Gate]]:
    """Compile the model's layers, plan its memory and let its passes be recorded, where wanted.

    Its products in FP8 come between: their weights are part of the memory, and recorded passes have
    them.

    Args:
        tokens: of an epoch of the training.

    Returns:
        How passes are computed from now on, the plan, and the gates passed.
    """
    train, longest = params.train, params.budget.max_tokens
    if not compute.packed:
        if train.fp8:
            raise UserError(
                "train.fp8 is true, but this backbone goes the plain way, which has no products in "
                "FP8: set it to false"
            )
        plan = memory.fit_plain(model, compute, train.gradient_checkpointing, longest)
        return replace(compute, token_budget=plan.row_tokens), plan, []
    passed = compile_if_wanted(model, few, compute, train.compile)
    if train.fp8:
        passed += round_products(model, few, compute)
    recording = records(model, train.cuda_graphs)
    plan = memory.fit(model, compute, train.gradient_checkpointing, longest, recording)
    compute = replace(compute, token_budget=plan.row_tokens)
    if not recording:
        return compute, plan, passed
    texts = compute.objective.texts
    grid = graphs.grid(plan.row_tokens, longest, texts, params.budget.epochs * tokens)
    recorder = graphs.Recorder(model, grid)
    recorded = replace(compute, recorder=recorder)
    full_row = memory.full_row(plan.row_tokens, longest, texts)
    try:
        passed += record(model, few, compute, recorded, full_row)
        return recorded, plan, passed
    except (RuntimeError, GateFailed) as error:
        cause = " ".join(str(error).splitlines()[:2])
        if train.cuda_graphs != "auto":
            if isinstance(error, GateFailed):
                raise
            raise UserError(f"train.cuda_graphs is true, but recording fails: {cause}") from None
        print(f"passes are not recorded as CUDA graphs, which is slower: {cause}")
        return compute, plan, passed


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Let sums be made in one order, so that the same run on the same GPU gives the same numbers.

    Else the gradient of FlashAttention differs from run to run by rounding, and a training by much
    more than that: 0.004 of log loss on 494 votes.
    """
    settings = torch.utils.deterministic
    before = torch.get_deterministic_debug_mode(), settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False  # nothing reads it
    try:
        yield
    finally:
        mode, settings.fill_uninitialized_memory = before
        torch.set_deterministic_debug_mode(mode)


def compile_if_wanted(
    model: PeftModel, examples: Examples, compute: Compute, wanted: bool | str
) -> list[Gate]:
    """Compile the model's layers; returns the gates that the compiled ones passed.

    Args:
        wanted: `auto` is on a GPU, and only if its compiler works.

    Raises:
        GateFailed: compiled, the model computes something else.
        UserError: it is wanted and there is no working compiler.
    """
    if not wanted or (wanted == "auto" and compute.device.type == "cpu"):
        return []
    if wanted == "auto" and stacked_experts(model):
        print("layers are not compiled: the compiler would compile each layer's experts anew")
        return []
    try:
        return compile_model(model, examples, compute)
    except (TorchDynamoException, InductorError, GateFailed) as error:
        cause = " ".join(str(error).splitlines()[:2])
        if wanted != "auto":
            if isinstance(error, GateFailed):
                raise
            raise UserError(f"train.compile is true, but compiling fails: {cause}") from None
        print(f"layers are not compiled, which is slower: {cause}")
        plain_layers(model)
        return []


def round_products(model: PeftModel, examples: Examples, compute: Compute) -> list[Gate]:
    """Let training make its products in FP8; returns the gate that its gradient stays.

    Raises:
        GateFailed: it does not.
        UserError: no layer of the model has such products, or its attention does not go with them.
    """
    if model.config._attn_implementation == FLEX:
        raise UserError(
            "train.fp8 is true, but this backbone's attention (soft-capped, or with sinks) is "
            "FlexAttention's, whose layers PyTorch cannot compile with products in FP8: set it to "
            "false"
        )
    with probing(model):
        plain = one_pass(model, examples, compute)[1]
        kept, layers = keep_fp8(model)
        if not kept:
            raise UserError(
                "train.fp8 is true, but no adapted layer of this backbone has inputs and outputs "
                "in multiples of 16, which products in FP8 need: set it to false"
            )
        print(f"products in FP8 while training: those of {kept} of {layers} adapted layers")
        try:
            rounded = one_pass(model, examples, compute)[1]
        except (TorchDynamoException, InductorError) as error:
            cause = " ".join(str(error).splitlines()[:2])
            raise UserError(
                f"train.fp8 is true, but compiling fails with it: {cause}: set it to false"
            ) from None
    return speed.FP8.require(relative(rounded, plain))


def records(model: PeftModel, wanted: bool | str) -> bool:
    """Whether a model's passes are to be recorded; `auto` is where they can be.

    Raises:
        UserError: it is wanted and cannot be done.
    """
    why_not = graphs.unfit(model)
    if wanted is True and why_not:
        raise UserError(f"train.cuda_graphs is true, but {why_not}: set it to auto or false")
    if wanted and why_not and next(model.parameters()).device.type == "cuda":
        print(f"passes are not recorded as CUDA graphs, which is slower: {why_not}")
    return bool(wanted) and not why_not


def compile_model(model: PeftModel, examples: Examples, compute: Compute) -> list[Gate]:
    """Compile the model's layers; returns the gate that they compute what they did before.

    Raises:
        GateFailed: they do not.
    """
    with probing(model):
        plain = one_pass(model, examples, compute)
        compile_layers(model)
        difference = max(map(relative, one_pass(model, examples, compute), plain))
    return speed.COMPILED.require(difference, compute.dtype)


def record(
    model: PeftModel,
    examples: Examples,
    compute: Compute,
    recorded: Compute,
    full_row: Sequence[Sequence[int]],
) -> list[Gate]:
    """Record passes; returns the gate that they compute what plain ones do.

    Args:
        full_row: the row that needs the most memory, recorded first so that all others fit into
            it. Plain passes come before: once it is taken there may be no room for theirs.

    Raises:
        GateFailed: they do not.
    """
    turned = examples.subset(range(len(examples))[::-1])
    with probing(model):
        plain = one_pass(model, examples, compute)
        longest = record_row(model, full_row, token_ids(examples), recorded)
        for shown in (examples, turned, examples):  # plain, recorded, replayed
            found = one_pass(model, shown, recorded)
        difference = max(longest, *map(relative, found, plain))
    return speed.RECORDED.require(difference, compute.dtype)


def record_row(
    model: PeftModel, row: Sequence[Sequence[int]], texts: list[list[int]], recorded: Compute
) -> float:
    """Record a pass over a row in training mode; returns how far a replay is off the plain pass.

    Args:
        row: only its lengths count.
        texts: token ids that are put there; backwards when recorded, so that a replay that reads
            what was there then shows.
    """
    model.train()
    filled = _filled([len(ids) for ids in row], texts)
    objective = recorded.objective
    targets = np.eye(objective.classes)[[0] * (len(row) // objective.texts)]
    plain = gradient(model, filled, targets, recorded)
    gradient(model, [ids[::-1] for ids in filled], targets, recorded)
    replayed = gradient(model, filled, targets, recorded)
    model.eval()
    model.zero_grad(set_to_none=True)
    return relative(replayed, plain)


def _filled(lengths: Sequence[int], texts: list[list[int]]) -> list[list[int]]:
    """Token ids of these lengths, from the texts over and over."""
    tokens = itertools.cycle(itertools.chain.from_iterable(texts))
    return [list(itertools.islice(tokens, n)) for n in lengths]
