"""How much memory a step needs, by calculation, and what training will recompute to fit in it."""

from dataclasses import replace

import torch

from stages.config.errors import UserError
from stages.config.params import Params
from stages.model.build import compute_dtype
from stages.planning.devices import Device
from stages.planning.shape import Shape
from stages.preflight.memory import widths
from stages.training.memory import MARGIN, Plan, choose

GIB = 2**30
ADAPTER, ADAM = 8, 8  # bytes of a trained parameter and its gradient, and of its two moments
FP8 = 2  # bytes of a weight in FP8, which is kept for both directions beside the quantised one
CONTEXT = 0.5  # GiB that CUDA and its libraries take
PROCESS = 1.2  # GiB that Python and its libraries take on a CPU
EXACT = 4  # bytes of a weight where a gate computes in float32: on a CPU that is the peak
# As seen of runs on an H100; see python -m bench.plan_check.
WORKING = 1.35  # layers' worth of results that are in work beside what is kept
WIDE, MORE = 2048, 1.3  # from that hidden size on, compiled layers keep so much more
UNCOMPILED = 2.0  # times as much of a layer that is not compiled


def plan_for(shape: Shape, params: Params, device: Device) -> Plan:
    """What a step will keep: decided as training decides it, on sizes that are calculated.

    Returns:
        The plan; its peak is of the whole process.

    Raises:
        UserError: not even one example fits.
    """
    train, budget = params.train, params.budget
    wanted, most = train.gradient_checkpointing, budget.max_tokens

    def peak(recomputed: int, tokens: int) -> int:
        return int(_standing(shape, params, device) + _step(shape, device, tokens, recomputed))

    moments = ADAM * shape.trained
    if isinstance(wanted, int) or not device.cuda or shape.way == "plain":
        layers = _fixed(wanted, shape, device)
        total = peak(layers, budget.token_budget) + moments
        if total > limit(device):
            raise UserError(_refusal(total, device, layers))
        return Plan(budget.token_budget, layers, shape.layers, total, limit(device))
    resting = int(_standing(shape, params, device)) if records(device, params) else None
    room = limit(device) - moments
    plan = choose(peak, shape.layers, budget.token_budget, most, room, resting)
    return replace(plan, peak=plan.peak + moments, limit=limit(device))


def _fixed(wanted: int | str, shape: Shape, device: Device) -> int:
    """How many layers are recomputed where the memory does not decide it."""
    if shape.way == "plain":  # all or none
        return 0 if wanted == 0 or not device.cuda else shape.layers
    return min(wanted, shape.layers) if isinstance(wanted, int) else 0


def _refusal(total: int, device: Device, layers: int) -> str:
    return (
        f"a step needs some {total / GIB:.1f} GiB with {layers} layers recomputed, of "
        f"{limit(device) / GIB:.1f} GiB to plan with: set train.gradient_checkpointing to auto, "
        "lower the scale's token_budget and max_tokens, or take a smaller backbone"
    )


def limit(device: Device) -> int:
    """Bytes to plan with."""
    return int(MARGIN * (device.memory - (CONTEXT if device.cuda else 0)) * GIB)


def records(device: Device, params: Params) -> bool:
    """Whether passes will be recorded."""
    train = params.train
    return device.packs and train.cuda_graphs is not False and not train.lora.dropout


def shares(shape: Shape, params: Params, plan: Plan) -> dict[str, float]:
    """Bytes of what stands in memory, by what they are; the rest of the peak are activations."""
    narrow, wide = _widths(params, shape)
    standing = {
        "matrices": shape.matrices * narrow,
        "other_weights": shape.rest * wide,
        "adapter": ADAPTER * shape.trained,
        "optimiser": ADAM * shape.trained,
    }
    return standing | {"activations": plan.peak - sum(standing.values())}


def _standing(shape: Shape, params: Params, device: Device) -> float:
    """Bytes in use between steps, without the optimiser's moments."""
    narrow, wide = _widths(params, shape)
    if not device.cuda:
        wide = _width(device)
    weights = shape.matrices * narrow + shape.rest * wide
    process = 0 if device.cuda else PROCESS * GIB + EXACT * (shape.matrices + shape.rest)
    return weights + ADAPTER * shape.trained + process


def _widths(params: Params, shape: Shape) -> tuple[float, float]:
    """Bytes of a weight of the layers' matrices, and of the others; experts have none in FP8."""
    narrow, wide = widths(params.train)
    return narrow + (FP8 if params.train.fp8 and shape.way == "fast" else 0), wide


def _step(shape: Shape, device: Device, tokens: int, recomputed: int) -> float:
    """Bytes of what a step keeps for its backward pass, and of what is in work."""
    width = _width(device)
    layer = width * tokens * numbers(shape)
    whole = shape.layers - 1 - recomputed  # the last layer keeps next to nothing
    return max(whole, 0) * layer + recomputed * width * tokens * shape.hidden + WORKING * layer


def numbers(shape: Shape) -> float:
    """Numbers that a layer keeps of a token."""
    if shape.way != "fast":
        return shape.kept * UNCOMPILED
    return shape.kept * (MORE if shape.hidden >= WIDE else 1.0)


def _width(device: Device) -> int:
    """Bytes of a number."""
    if device.cuda:
        return 2
    return compute_dtype("auto", torch.device("cpu")).itemsize
