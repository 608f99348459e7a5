"""How fast a backbone trains and predicts on a device that is not here, from published rates.

The time of a token is the sum of five parts, and a training has a sixth:

- matrix products: 2 FLOPs a weight that a token meets in the forward pass, and as many in the
  backward pass, since a frozen weight needs no gradient; at PRODUCTS of the device's peak, in
  training FP8 times as fast where they are in FP8;
- attention: 4 FLOPs for each number of the queries and each token attended to, and 2.5 times that
  in the backward pass; at ATTENTION of the peak, and less where a head is wide;
- what moves: each number that a layer keeps goes through memory some PASSES times, for norms,
  gates, residuals and the adapter;
- de-quantising each row's matrices, once in each direction;
- kernels: what a layer takes of a row however small both are, which only small backbones notice;
- the recording of each shape of its rows, which only short trainings of small backbones notice.

Beside that, each fold takes a while to start.

A recomputed layer computes its forward pass again. The constants are those of an H100, with
Llama-3.1-8B, Gemma-2-9B, Qwen2.5-7B, Qwen3-8B, Gemma-3-12B and Gemma-3-270M (bench/THROUGHPUT.md);
python -m bench.plan_check compares. Of other GPUs the same shares of their data sheets are taken.
"""

from dataclasses import dataclass

from stages.planning.devices import Device
from stages.planning.memory import numbers
from stages.planning.shape import Shape
from stages.training.memory import Plan

TERA = 1e12
PRODUCTS, FP8 = 0.64, 1.6
ATTENTION, WIDE_ATTENTION, WIDE_HEAD = 0.17, 0.08, 256
PASSES = 5.4
BACKWARD = 2.5  # times the forward pass, of attention
FORWARD = 1 / 3  # of what moves
KERNELS, FORWARD_KERNELS = 7.2e-4, 3.8e-4  # seconds of a layer and row, in training and prediction
DEQUANTISED = 2.5  # bytes a weight: half of one is read, two are written
# Seconds of a layer for each shape of rows, which is computed once as it is, and then recorded:
# between 0.014 and 0.026, of Gemma-3-270M and SmolLM2-135M on hosts that were more or less busy.
SHAPE = 0.018
# Seconds before a fold's first step: loading, gates, compiling and recording, as ten trainings of
# Gemma-3-270M side by side took on an H100, 90 to 130; and on a CPU, where nothing is compiled.
START, START_ON_CPU = 110, 30
# Times as long as calculated, in training and in prediction: as gpt-oss-20b and Qwen3.5-9B were,
# one measurement each.
SLOWER = {"fast": (1.0, 1.0), "experts": (5.2, 4.2), "plain": (7.7, 4.3)}
# How far off the range goes: on an H100, where it was checked, there of small backbones, whose time
# is the host's, and elsewhere.
CHECKED, SMALL, UNCHECKED = 0.15, 0.25, 0.35
SMALLEST = 1e9  # parameters of the linear layers; a backbone with fewer is small
ROUGH = 1.0  # of ways that were measured once


@dataclass(frozen=True)
class Speed:
    """Seconds of a token.

    Attributes:
        training, held_out: seconds of a token, in training and in prediction.
        shape: seconds that a shape of rows takes until it is recorded.
        start: seconds of a fold before its first step.
        error: the true time lies between 1 / (1 + error) and 1 + error times the expected one.
        how: how it is known.
    """

    training: float
    held_out: float
    shape: float
    start: float
    error: float
    how: str


def reckon(
    shape: Shape, device: Device, plan: Plan, span: float, batch: float, fp8: bool = False
) -> Speed:
    """The speed by calculation.

    Args:
        span: tokens that a token attends to, in the mean.
        batch: tokens of an optimiser step: no row of a training has more.
        fp8: whether a training's products are in FP8.
    """
    row = min(plan.row_tokens, batch)
    forward = _forward(shape, device, plan.row_tokens * 2, span)
    again = plan.recomputed / shape.layers * _forward(shape, device, row, span, fp8)
    training = _training(shape, device, row, span, fp8) + again
    train_slower, predict_slower = SLOWER[shape.way]
    return Speed(
        training=training * train_slower,
        held_out=forward * predict_slower,
        shape=SHAPE * shape.layers if device.packs and shape.way == "fast" else 0.0,
        start=start(device.cuda),
        error=_error(shape, device),
        how="calculated from the rates of an H100"
        + (f", with products in FP8 {FP8} times as fast in training" if fp8 else "")
        + ("" if device.cuda else ", which says little of a CPU"),
    )


def start(cuda: bool) -> float:
    """Seconds of a fold before its first step."""
    return START if cuda else START_ON_CPU


def _training(shape: Shape, device: Device, row: float, span: float, fp8: bool) -> float:
    products, attention, moves, dense = _parts(shape, device, row, span, fp8)
    kernels = KERNELS * shape.layers / row
    return 2 * products + (1 + BACKWARD) * attention + moves + 2 * dense + kernels


def _forward(shape: Shape, device: Device, row: float, span: float, fp8: bool = False) -> float:
    products, attention, moves, dense = _parts(shape, device, row, span, fp8)
    kernels = FORWARD_KERNELS * shape.layers / row
    return products + attention + FORWARD * moves + dense + kernels


def _parts(shape: Shape, device: Device, row: float, span: float, fp8: bool) -> tuple[float, ...]:
    """Seconds a token: products and attention forward, what moves in training, de-quantising."""
    share = WIDE_ATTENTION if shape.head >= WIDE_HEAD else ATTENTION
    peak, bandwidth = device.tflops * TERA, device.bandwidth * TERA
    dense = 0.0 if fp8 else DEQUANTISED  # weights in FP8 are kept
    return (
        2 * shape.active / (PRODUCTS * peak * (FP8 if fp8 else 1)),
        4 * span * shape.queries / (share * peak),
        PASSES * 2 * numbers(shape) * shape.layers / bandwidth,
        dense * shape.matrices / row / bandwidth,
    )


def _error(shape: Shape, device: Device) -> float:
    if shape.way != "fast" or not device.packs:
        return ROUGH
    if "H100" not in device.name:
        return UNCHECKED
    return CHECKED if shape.active >= SMALLEST else SMALL
