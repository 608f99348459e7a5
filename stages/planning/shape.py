"""What time and memory depend on: the sizes of a backbone's parts, seen without its weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedConfig

from stages.model import stock
from stages.model.build import adapt
from stages.model.families import EXPERTS
from stages.model.objective import Objective
from stages.preflight.candidate import Candidate
from stages.preflight.memory import weights

# fast: packed and compiled; experts: packed, but not compiled; plain: transformers' own forward.
Way = Literal["fast", "experts", "plain"]


@dataclass(frozen=True)
class Shape:
    """The sizes of a backbone with its adapter.

    Attributes:
        layers, hidden: their number, and the width between them.
        matrices: weights in the layers' matrices, which are quantised.
        rest: other weights in memory: embeddings, norms, a language-model head that is used.
        on_disk: all weights of the checkpoint's text.
        active: weights of the matrices that a token meets; fewer where there are experts.
        trained: parameters of adapter and head.
        kept: numbers that a layer keeps of a token for the backward pass, in the mean of layers.
        queries: width of the queries, of all layers together; head: width of one.
        way: how it is most likely computed.
    """

    layers: int
    hidden: int
    matrices: int
    rest: int
    on_disk: int
    active: float
    trained: int
    kept: float
    queries: int
    head: int
    way: Way


class NoShape(Exception):
    """What is not known of a checkpoint whose parts are called otherwise than most."""


def shape(found: Candidate) -> Shape:
    """The shape of a checkpoint, adapted as its params ask.

    Raises:
        NoShape: its configuration or its layers are of a kind that is not known here.
    """
    try:
        return _shape(found)
    except (AttributeError, TypeError, ValueError) as error:
        raise NoShape(
            f"how large {found.name} is: a {found.config.model_type} is built otherwise than most "
            f"({type(error).__name__}: {error})"
        ) from error


def _shape(found: Candidate) -> Shape:
    model, text, train = found.model, found.text, found.params.train
    layers = stock.decoder_layers(model)
    matrices, rest = weights(found)
    on_disk = sum(parameter.numel() for parameter in model.parameters())
    share = _share_of_experts(text)
    sizes = [list(_matrices(layer, share)) for layer in layers]
    kept = [
        _kept(layer, of_layer, text.hidden_size)
        for layer, of_layer in zip(layers, sizes, strict=True)
    ]
    attending = [layer for layer in layers if hasattr(layer, "self_attn")]
    stacked = any(stock.stacked(name, module) for name, module in layers.named_modules())
    plain = found.kind == "encoder" or len(attending) < len(layers)
    with torch.device("meta"):
        adapted = adapt(model, train, Objective(alone=train.objective == "reward").outputs)
    return Shape(
        layers=len(layers),
        hidden=text.hidden_size,
        matrices=matrices,
        rest=rest,
        on_disk=on_disk,
        active=sum(m.times * m.inputs * m.outputs for of_layer in sizes for m in of_layer),
        trained=sum(p.numel() for p in adapted.parameters() if p.requires_grad),
        kept=sum(kept) / len(layers),
        queries=sum(_queries(of_layer, text.hidden_size) for of_layer in sizes),
        head=max((getattr(layer.self_attn, "head_dim", 0) for layer in attending), default=0),
        way="plain" if plain else "experts" if stacked else "fast",
    )


@dataclass(frozen=True)
class Matrix:
    """A matrix of a layer: its module, its widths, and how often a token meets it."""

    module: str
    inputs: int
    outputs: int
    times: float = 1.0


def _matrices(layer: nn.Module, share: float) -> Iterator[Matrix]:
    """The matrices of a layer.

    Args:
        share: of the experts that a token meets.
    """
    linear = set(stock.linear_names(layer, nn.ModuleList([layer])))
    for name, module in layer.named_modules():
        if name in linear:
            times = share if EXPERTS.search(name) else 1.0
            inputs, outputs = _widths(module)
            yield Matrix(name, inputs, outputs, times)
        for own in stock.stacked(name, module):
            of_all = getattr(module, own)
            *_, inputs, outputs = of_all.shape
            yield Matrix(
                f"{name}.{own}", inputs, outputs, share * of_all.numel() / inputs / outputs
            )


def _widths(module: nn.Module) -> tuple[int, int]:
    """Of a linear module's inputs and outputs; Conv1D, as GPT-2 has it, calls them otherwise."""
    if hasattr(module, "nx"):
        return module.nx, module.nf
    return module.in_features, module.out_features


def _queries(matrices: list[Matrix], hidden: int) -> int:
    """The width of a layer's queries; that between the layers where no matrix is called so."""
    return next((m.outputs for m in matrices if m.module.endswith("q_proj")), hidden)


def _share_of_experts(text: PreTrainedConfig) -> float:
    """The share of a layer's experts that a token meets; 1 where there are none."""
    chosen = getattr(text, "num_experts_per_tok", None)
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    there = next((n for name in names if (n := getattr(text, name, None))), None)
    return chosen / there if chosen and there else 1.0


def _kept(layer: nn.Module, matrices: list[Matrix], hidden: int) -> float:
    """Numbers that a layer keeps of a token: what goes into its matrices, and comes out of them.

    Matrices of one module share an input, but for the last, as queries, keys and values do.
    A third and a fourth norm, and norms of queries and keys, keep their inputs, too.
    """
    total = sum(m.times * m.outputs for m in matrices)
    modules: dict[str, list[Matrix]] = {}
    for matrix in matrices:
        modules.setdefault(matrix.module.rpartition(".")[0], []).append(matrix)
    for own in modules.values():
        ends = own[:1] if len(own) == 1 else [own[0], own[-1]]
        total += sum(m.times * m.inputs for m in ends)
    norms = [
        (name, module)
        for name, module in layer.named_modules()
        if "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None
    ]
    wide = [name for name, module in norms if module.weight.numel() == hidden]
    total += max(len(wide) - 2, 0) * hidden
    for name, module in norms:
        if name not in wide:
            place, _, own_name = name.rpartition(".")
            total += next(
                (m.outputs for m in matrices if m.module == f"{place}.{own_name[0]}_proj"),
                module.weight.numel(),
            )
    return total
