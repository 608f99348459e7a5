"""How much of a step is kept in memory, decided before the first one.

A layer's activations are either kept for the backward pass or, of all but its input, computed
again (Chen et al. 2016). Both give the same gradients; the second costs a third more. So as few
layers are recomputed as the memory allows, which is measured on the model itself with a full row.
Where none has to be, what is left holds the base's de-quantised weights, so that passes need not
compute them again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from stages.config.errors import UserError, out_of_memory
from stages.devices import processes
from stages.model.attention import FLEX
from stages.model.layers import decoder_layers, recompute
from stages.model.lora import dense_bytes, keep_dense
from stages.model.passes import Compute, accumulate
from stages.model.sharding import sharded

MARGIN = 0.95  # share of the memory to plan with: fragments, and rows of another mix
DENSE = 0.9  # share of that which de-quantised weights may fill: they save little, and stay
ON_CPU = 2**30  # bytes that they may fill on the CPU, where the memory is not measured
Peak = Callable[[int, int], int | None]


@dataclass(frozen=True)
class Plan:
    """What a step keeps.

    Attributes:
        row_tokens: tokens of one packed row.
        recomputed: layers that keep only their input.
        layers: of the backbone.
        peak: bytes that a step is expected to need, and `limit` those there are; 0 if not measured.
        dense: layers whose de-quantised weights are kept.
    """

    row_tokens: int
    recomputed: int
    layers: int
    peak: int = 0
    limit: int = 0
    dense: int = 0

    def __str__(self) -> str:
        parts = [f"{self.recomputed} of {self.layers} layers recomputed"]
        parts += [f"rows of {self.row_tokens} tokens"]
        if self.dense:
            parts.append(f"weights of {self.dense} layers kept de-quantised")
        if self.limit:
            parts.append(f"{_gib(self.peak)} of {_gib(self.limit)} GiB expected")
        return ", ".join(parts)


def fit(
    model: PeftModel, compute: Compute, wanted: int | str, max_tokens: int, recorded: bool = False
) -> Plan:
    """Decide what a step keeps and set the model to it.

    Args:
        wanted: how many layers recompute; `auto` is as few as fit, and none on the CPU.
        max_tokens: of the longest example; no row can be shorter.
        recorded: whether passes are to be recorded; see `choose`.

    Raises:
        UserError: not even one example fits with every layer recomputed.
    """
    layers = len(decoder_layers(model))
    if isinstance(wanted, int):
        plan = Plan(compute.token_budget, min(wanted, layers), layers)
    elif compute.device.type == "cpu":
        plan = Plan(compute.token_budget, 0, layers)
    else:
        adam = 8 * sum(p.numel() for p in model.parameters() if p.requires_grad)
        limit = min(processes.gather(int(MARGIN * _limit(compute.device)) - adam))
        plan = choose(
            lambda recomputed, tokens: _peak(model, compute, recomputed, tokens, max_tokens),
            layers,
            compute.token_budget,
            max_tokens,
            limit,
            max(processes.gather(torch.cuda.memory_allocated(compute.device)))
            if recorded
            else None,
        )
    recompute(model, plan.recomputed)
    return plan if plan.recomputed else keep_weights(model, compute, plan)


def keep_weights(model: PeftModel, compute: Compute, plan: Plan) -> Plan:
    """Keep the de-quantised weights of as many layers as there is room for."""
    measured = plan.limit or compute.device.type != "cpu"
    room = int(DENSE * plan.limit) - plan.peak if measured else ON_CPU
    # With these weights FlexAttention's layers are compiled anew, where the number of heads is a
    # variable to the compiler, as the weights' sizes are; its lowering in PyTorch 2.11 fails there.
    if sharded(model) or model.config._attn_implementation == FLEX:
        return plan
    kept, taken = 0, 0
    for layer in decoder_layers(model):
        size = dense_bytes(layer, compute.dtype)
        if not size or taken + size > room:
            break
        keep_dense(layer)
        kept, taken = kept + 1, taken + size
    return replace(plan, dense=kept, peak=plan.peak + taken if measured else 0)


def fit_plain(model: PeftModel, compute: Compute, wanted: int | str, max_tokens: int) -> Plan:
    """Decide what a step keeps where examples go the plain way, and set the model to it.

    transformers recomputes all layers or none; on a GPU it is all, unless `wanted` is 0.

    Raises:
        UserError: not even one example fits.
    """
    cuda, base = compute.device.type == "cuda", model.get_base_model()
    asked = wanted > 0 if isinstance(wanted, int) else cuda
    able = asked and base.supports_gradient_checkpointing
    recomputed = able and _let_recompute(model, compute, max_tokens)
    tokens, layers = compute.token_budget, len(decoder_layers(model))
    while cuda and _own_peak(model, compute, None, tokens, max_tokens) is None:
        if tokens == max_tokens:
            raise UserError(
                f"one example of {max_tokens} tokens needs more memory than there is: lower the "
                "scale's max_tokens, take a smaller backbone, or a GPU with more memory"
            )
        tokens = max(tokens // 2, max_tokens)
    return Plan(tokens, layers if recomputed else 0, layers)


def _let_recompute(model: PeftModel, compute: Compute, tokens: int) -> bool:
    """Let transformers recompute all layers; returns whether the model's code takes that."""
    base = model.get_base_model()
    base.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    try:
        accumulate(model, *_filling(compute, tokens, tokens), compute, Tensor.backward)
        return True
    except RuntimeError as error:  # of code that writes over its embeddings, as GIT's
        if out_of_memory(error):  # which is another question
            return True
        base.activation_checkpointing_disable()
        base.disable_input_require_grads()
        print(f"layers are not recomputed, which takes more memory: {error}")
        return False
    finally:
        model.eval()
        model.zero_grad(set_to_none=True)


def choose(
    peak: Peak,
    layers: int,
    row_tokens: int,
    max_tokens: int,
    limit: int,
    resting: int | None = None,
) -> Plan:
    """The longest rows, and then the fewest recomputed layers, that stay below a limit.

    Args:
        peak: bytes that a step needs by number of recomputed layers and tokens of a row, or None
            where it runs out of memory.
        limit: bytes.
        resting: bytes in use between steps, if passes are recorded: what their steps need is kept,
            and passes with all layers recomputed need their own beside it.
    """
    most = layers - 1  # the last layer keeps next to nothing

    def spare(least: int) -> int:
        return 0 if resting is None else least - resting

    while (least := peak(most, row_tokens)) is None or least + spare(least) > limit:
        if row_tokens == max_tokens:
            needed = "more than there is" if least is None else f"{_gib(least + spare(least))} GiB"
            raise UserError(
                f"one example of {max_tokens} tokens needs {needed} with every layer recomputed, "
                f"of {_gib(limit)} GiB to plan with: lower the scale's max_tokens, take a smaller "
                "backbone, or a GPU with more memory"
            )
        row_tokens = max(row_tokens // 2, max_tokens)
    # What a layer keeps shows between one kept and three: one is always there, if only recomputed.
    one, three = (peak(max(most - kept, 0), row_tokens) for kept in (1, 3))
    beside = spare(least)
    room = limit - beside
    if one is None or one > room or three is None:
        return Plan(row_tokens, most, layers, least + beside, limit)
    layer = max((three - one) / 2, 1)
    kept = min(most, 1 + int((room - one) / layer))
    expected = one + int((kept - 1) * layer) + beside
    return Plan(row_tokens, most - kept, layers, expected, limit)


def full_row(tokens: int, max_tokens: int, texts: int = 1) -> list[list[int]]:
    """Token ids of examples that fill a row of so many tokens, as long as examples may be.

    Args:
        texts: that an example is.
    """
    whole, rest = divmod(tokens, max_tokens)
    examples = [*[max_tokens] * whole, *([rest] if rest else [])]
    return [[0] * (n // texts) for n in examples for _ in range(texts)]


def _limit(device: torch.device) -> int:
    """Bytes that this process may have: what is free or already its own, and what it is allowed."""
    free, total = torch.cuda.mem_get_info(device)
    allowed = torch.cuda.get_per_process_memory_fraction(device) * total
    return int(min(free + torch.cuda.memory_reserved(device), allowed))


def _peak(
    model: PeftModel, compute: Compute, recomputed: int, tokens: int, max_tokens: int
) -> int | None:
    """Bytes at the peak of a step with one full row, of the process that needs most.

    None if some process does not have them.
    """
    peaks = processes.gather(_own_peak(model, compute, recomputed, tokens, max_tokens))
    return None if None in peaks else max(peaks)


def _own_peak(
    model: PeftModel, compute: Compute, recomputed: int | None, tokens: int, max_tokens: int
) -> int | None:
    if recomputed is not None:
        recompute(model, recomputed)
    model.train()
    row = replace(compute, token_budget=tokens)
    torch.cuda.reset_peak_memory_stats(compute.device)
    try:
        accumulate(model, *_filling(compute, tokens, max_tokens), row, Tensor.backward)
        return torch.cuda.max_memory_allocated(compute.device)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return None
    finally:
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()


def _filling(compute: Compute, tokens: int, max_tokens: int) -> tuple[list[list[int]], np.ndarray]:
    """The examples of a full row, and targets of theirs."""
    texts, classes = compute.objective.texts, compute.objective.classes
    ids = full_row(tokens, max_tokens, texts)
    return ids, np.eye(classes)[[0] * (len(ids) // texts)]


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f}"
