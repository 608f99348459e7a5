"""How passes are made fast on the device at hand: layers compiled, memory used, passes recorded."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import torch
from peft import PeftModel
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InductorError

from stages.config.errors import UserError
from stages.config.params import Params
from stages.model import graphs
from stages.model.examples import Examples
from stages.model.layers import plain_layers
from stages.model.passes import Compute
from stages.training import gates, memory


def make_fast(
    model: PeftModel, few: Examples, compute: Compute, params: Params
) -> tuple[Compute, memory.Plan, list[gates.Gate]]:
    """Compile the model's layers, plan its memory and let its passes be recorded, where wanted.

    Returns:
        How passes are computed from now on, the plan, and the gates passed.
    """
    train, longest = params.train, params.budget.max_tokens
    passed = compile_if_wanted(model, few, compute, train.compile)
    record = records(model, train.cuda_graphs)
    plan = memory.fit(model, compute, train.gradient_checkpointing, longest, record)
    compute = replace(compute, token_budget=plan.row_tokens)
    if not record:
        return compute, plan, passed
    recorder = graphs.Recorder(model, graphs.grid(plan.row_tokens, longest))
    recorded = replace(compute, recorder=recorder)
    full_row = memory.full_row(plan.row_tokens, longest)
    try:
        passed += gates.check_recorded(model, few, compute, recorded, full_row)
        return recorded, plan, passed
    except RuntimeError as error:
        cause = " ".join(str(error).splitlines()[:2])
        if train.cuda_graphs != "auto":
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
) -> list[gates.Gate]:
    """Compile the model's layers; returns the gates that the compiled ones passed.

    Args:
        wanted: `auto` is on a GPU, and only if its compiler works.

    Raises:
        GateFailed: compiled, the model computes something else.
        UserError: it is wanted and there is no working compiler.
    """
    if not wanted or (wanted == "auto" and compute.device.type == "cpu"):
        return []
    try:
        return gates.check_compiled(model, examples, compute)
    except (TorchDynamoException, InductorError) as error:
        cause = " ".join(str(error).splitlines()[:2])
        if wanted != "auto":
            raise UserError(f"train.compile is true, but compiling fails: {cause}") from None
        print(f"layers are not compiled, which is slower: {cause}")
        plain_layers(model)
        return []


def records(model: PeftModel, wanted: bool | str) -> bool:
    """Whether a model's passes are to be recorded; `auto` is where they can be.

    Raises:
        UserError: it is wanted and cannot be done.
    """
    why_not = graphs.unfit(model)
    if wanted is True and why_not:
        raise UserError(f"train.cuda_graphs is true, but {why_not}: set it to auto or false")
    return bool(wanted) and not why_not
