"""The gate that the run computes what transformers computes, on the run's own weights.

The reference shares no code with what it checks. It is the model as transformers and PEFT have made
it, in eager attention, each example alone, before anything else touches it. How much rounding may
explain is measured, too: it is how far the same model, in half precision, lies from float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from bitsandbytes.nn import Linear4bit
from bitsandbytes.nn.parametrize import Bnb4bitParametrization
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from stages.config.errors import out_of_memory
from stages.model.attention import FLASH4, PACKED, VARLEN
from stages.model.examples import Examples
from stages.model.head import HEAD, head
from stages.model.kinds import reads_both_ways
from stages.model.packed import attend
from stages.model.passes import Compute, class_logits
from stages.model.stock import backbone, explained
from stages.training.gates.gate import Finding, Phase
from stages.training.gates.probe import logits_of, probing, relative, token_ids

# On (model, examples, compute, Reference), probed; EXACT before layers are compiled or in shards.
EXACT, SAME = Phase(), Phase()
# In units of what half precision does, which is measured on a few logits: five times that is still
# rounding (a sound ModernBERT was found at 3.2 on a GPU), and float32 judges beside it. Float32
# keeps 16 bits more than bfloat16, of which sums in another order may lose 6.
LIMITS = {torch.float32: 2.0**-10, torch.bfloat16: 5.0, torch.float16: 5.0}


@dataclass(frozen=True)
class Reference:
    """What transformers computes of a few examples, with probed adapter and head.

    Attributes:
        exact: logits (examples, 3), in float32.
        rounding: how far half precision lies from that, relative.
    """

    exact: Tensor
    rounding: float


def reference(model: PeftModel, examples: Examples, compute: Compute) -> Reference:
    """Take the reference of a model that nothing of ours has touched."""
    model.eval()
    kind = type(model.get_base_model()).__name__
    with probing(model), explained(f"transformers' {kind} fails on a text alone"):
        with computing_in(model, torch.float32):
            exact = _alone(model, examples, compute)
        rounding = _rounding(model, examples, compute, exact)
    return Reference(exact, rounding)


def _rounding(model: PeftModel, examples: Examples, compute: Compute, exact: Tensor) -> float:
    """How far half precision lies from float32; its unit, for a model that computes in no such."""
    wanted = compute.dtype != torch.float32
    half = compute.dtype if wanted else torch.bfloat16
    try:
        with computing_in(model, half):
            return relative(_alone(model, examples, compute), exact)
    except RuntimeError as error:
        if wanted or out_of_memory(error):
            raise
        return torch.finfo(half).eps


@SAME.gate(
    "as_transformers",
    "the run computes other logits than transformers does with the same weights",
    "the fast way leaves out something of this architecture (attention sinks, a window, a scale of "
    "the logits, a state that runs on): `-S train.way=plain`",
    "a padding token, or another token than each example's last, is read",
)
def as_transformers(
    model: PeftModel, examples: Examples, compute: Compute, expected: Reference
) -> Finding:
    """The run's own passes give the logits of transformers' own model, each example alone."""
    return _off(model, examples, compute, expected)


@EXACT.gate(
    "exact",
    "in float32, where rounding hides nothing, the run computes other logits than transformers",
    "the fast way leaves out something small of this architecture: `-S train.way=plain`",
    "padding shows: `-S train.way=auto` computes only examples of equal length together",
)
def exact(model: PeftModel, examples: Examples, compute: Compute, expected: Reference) -> Finding:
    """What half precision could hide, float32 shows: sinks, or what padding does."""
    with in_float32(model):
        return _off(model, examples, replace(compute, dtype=torch.float32), expected)


def _off(model: PeftModel, examples: Examples, compute: Compute, expected: Reference) -> Finding:
    difference = relative(logits_of(model, examples, compute), expected.exact)
    limit = LIMITS[compute.dtype] * expected.rounding
    return Finding(difference <= limit, f"{difference:.2g}", f"at most {limit:.2g}, by rounding")


@SAME.gate(
    "neighbours",
    "an example's result depends on the examples that are computed beside it",
    "attention, or a state that runs over the tokens, leaks between the examples of a row: "
    "`-S train.way=plain`",
)
def neighbours(
    model: PeftModel, examples: Examples, compute: Compute, expected: Reference
) -> Finding:
    """Other texts beside an example, of the same lengths, leave its logits as they were."""
    moved = _moved(model, examples, compute)
    if moved == 0:
        return Finding(True, "0", "0")
    # Experts compute tokens of all examples together, and round otherwise: float32 tells.
    plain = replace(compute, dtype=torch.float32, recorder=None)
    with in_float32(model):
        moved = _moved(model, examples, plain)
    limit = LIMITS[torch.float32] * expected.rounding
    return Finding(moved <= limit, f"{moved:.2g}", f"0, or in float32 at most {limit:.2g}")


@SAME.gate(
    "repeatable",
    "the same examples give other results in another pass",
    "the architecture keeps something from one pass to the next, or draws at random: take another "
    "backbone",
)
def repeatable(
    model: PeftModel, examples: Examples, compute: Compute, expected: Reference
) -> Finding:
    """After a pass over other texts, the same examples give the same logits again."""
    first = logits_of(model, examples, compute)
    class_logits(model, [ids[::-1] for ids in token_ids(examples)], compute)
    return _unmoved(logits_of(model, examples, compute), first, expected)


@SAME.gate(
    "training_mode",
    "in training the model computes something else than in prediction, the adapter's dropout apart",
    "the architecture draws at random in training (dropout, noise in its routers) by a setting "
    "whose name is not known: see CHANCE in stages/model/families.py",
)
def training_mode(
    model: PeftModel, examples: Examples, compute: Compute, expected: Reference
) -> Finding:
    """Training mode changes no logits."""
    first = logits_of(model, examples, compute)
    model.train()
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.lora_dropout.eval()
    found = logits_of(model, examples, compute)
    model.eval()
    return _unmoved(found, first, expected)


def _unmoved(found: Tensor, before: Tensor, expected: Reference) -> Finding:
    """Whether a pass has given what it did before: in any dtype, as it is the same computation."""
    difference, limit = relative(found, before), LIMITS[torch.float32] * expected.rounding
    return Finding(difference <= limit, f"{difference:.2g}", f"at most {limit:.2g}")


def _moved(model: PeftModel, examples: Examples, compute: Compute) -> float:
    """How far each example's logits move, at most, when all others change their texts."""
    together = replace(compute, token_budget=10**9)
    ids, texts = token_ids(examples), compute.objective.texts
    plain = class_logits(model, ids, together)
    moved = 0.0
    for i in range(len(examples)):
        others = [own if k // texts == i else [*own[:1], *own[:0:-1]] for k, own in enumerate(ids)]
        found = class_logits(model, others, together)[i]
        moved = max(moved, relative(found, plain[i]))
    return moved


@torch.no_grad()
def _alone(model: PeftModel, examples: Examples, compute: Compute) -> Tensor:
    """The logits at the token that is read, by transformers' own forward."""
    base, reads, rows = model.get_base_model(), head(model), []
    for ids in token_ids(examples):
        tokens = torch.tensor([ids], device=compute.device)
        if hasattr(base, HEAD):
            hidden = backbone(base)(input_ids=tokens).last_hidden_state
            hidden = hidden[:, 0 if reads_both_ways(base) else -1]
            rows.append(nn.functional.linear(hidden.float(), reads.weight.float()))
        else:
            rows.append(base(input_ids=tokens).logits[:, -1])
    return compute.objective.class_logits(torch.cat(rows)).float().cpu()


@contextmanager
def in_float32(model: PeftModel) -> Iterator[None]:
    """Let a model go its way in float32 for a while, for which FlashAttention has no kernel."""
    base = model.get_base_model()
    kernel = base.config._attn_implementation
    if kernel in (VARLEN, FLASH4):
        attend(base, PACKED)
    try:
        with computing_in(model, torch.float32):
            yield
    finally:
        attend(base, kernel)


@contextmanager
def computing_in(model: PeftModel, dtype: torch.dtype) -> Iterator[None]:
    """Let the base compute in another dtype for a while, on the weights that it has."""
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    layers = [m for m in model.modules() if isinstance(m, Linear4bit)]
    states = [m.weight.quant_state for m in layers]
    states += [m.quant_state for m in model.modules() if isinstance(m, Bnb4bitParametrization)]
    tensors = [*model.parameters(), *model.buffers()]
    own = [t for t in tensors if t.is_floating_point() and id(t) not in trained]
    values, dtypes = [tensor.data for tensor in own], [state.dtype for state in states]
    computed = [layer.compute_dtype for layer in layers]
    adapted = [m for m in model.modules() if isinstance(m, LoraLayer)]
    dense = {m: m.dense for m in adapted if getattr(m, "dense", None) is not None}
    for module in dense:  # which is in the model's dtype
        module.dense = None
    for tensor in own:
        tensor.data = tensor.data.to(dtype)
    for layer in layers:
        layer.compute_dtype = dtype
    for state in states:
        state.dtype = dtype
    try:
        yield
    finally:
        for tensor, value in zip(own, values, strict=True):
            tensor.data = value
        for layer, was in zip(layers, computed, strict=True):
            layer.compute_dtype = was
        for state, was in zip(states, dtypes, strict=True):
            state.dtype = was
        for module, was in dense.items():
            module.dense = was
