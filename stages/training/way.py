"""Which way a run goes through its backbone: the fast one where it is exact, else the plain one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel

from stages.config.errors import UserError
from stages.config.params import Train
from stages.model import packed, plain, sharding
from stages.model.build import build_plain
from stages.model.examples import Examples
from stages.model.head import unround_logits
from stages.model.passes import Compute
from stages.training.gates.gate import Gate, GateFailed
from stages.training.gates.probe import probing
from stages.training.gates.reference import SAME, Reference, reference


def load(
    weights: Path, few: Examples, compute: Compute, train: Train
) -> tuple[PeftModel, Compute, Reference]:
    """Load a backbone, and let it compute as fast as it does exactly; see `choose`."""
    device = torch.device("cpu") if sharding.wanted() else compute.device
    model = build_plain(weights, train, device)
    compute, expected = choose(model, few, compute, train)
    return model, compute, expected


def choose(
    model: PeftModel, few: Examples, compute: Compute, train: Train
) -> tuple[Compute, Reference]:
    """Let a model that transformers and PEFT have made compute as fast as it does exactly.

    Args:
        few: examples that both ways are tried on.

    Returns:
        How it computes, and the reference: what transformers computes of the few examples.

    Raises:
        GateFailed: the way that was asked for, or even the plain one, computes something else.
    """
    here = next(model.parameters()).device
    expected = reference(model, few, replace(compute, device=here))
    if train.way != "plain":
        with _falling_back(model, train):
            _put_on(model, few, compute, train, expected)
            return compute, expected
    unround_logits(model)
    compute = replace(compute, packed=False)
    same(model, few, compute, expected)
    return compute, expected


def same(model: PeftModel, few: Examples, compute: Compute, expected: Reference) -> list[Gate]:
    """Run the gates that a model computes what transformers does, as it computes now.

    Raises:
        GateFailed: it does not.
    """
    with probing(model):
        return SAME.require(model, few, compute, expected)


def _put_on(
    model: PeftModel, few: Examples, compute: Compute, train: Train, expected: Reference
) -> None:
    """Let a model go the fast way, with the last layer shortened where that is exact."""
    for short in (True, False):
        packed.put_on(model, train, compute.dtype, compute.device, short)
        try:
            if sharding.wanted():
                sharding.shard(model, compute.device)
            same(model, few, compute, expected)
            return
        except Exception:
            if not short or sharding.wanted():
                raise
            packed.take_off(model)


@contextmanager
def _falling_back(model: PeftModel, train: Train) -> Iterator[None]:
    """Try the fast way; where it does not serve this backbone, say why and leave the plain one."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever an architecture that we do not know raises
        if train.way == "fast":
            raise UserError(f"train.way is fast, but {_reason(error)}: set it to auto") from error
        if sharding.wanted():
            raise UserError(
                f"SHARD=1 needs the fast way, but {_reason(error)}: unset SHARD, or take another "
                "backbone"
            ) from error
        packed.take_off(model)
        print(
            f"this backbone goes the plain way, since {_reason(error)}. Its results are right. It "
            "is slower: shorter examples are padded, and layers are neither compiled nor recorded"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, GateFailed):
        found = "; ".join(f"{g.name}: {g.value}, expected {g.expected}" for g in error.gates)
        return f"the fast one does not compute what transformers does ({found})"
    return f"the fast one does not know its layers ({type(error).__name__}: {error})"


def padding(examples: Examples, token_budget: int) -> float:
    """Which share of the tokens that the plain way computes is padding."""
    ids = [examples.encode(i).ids for i in range(len(examples))]
    computed = sum(batch.input_ids.numel() for batch in plain.batches(ids, token_budget))
    return 1 - sum(map(len, ids)) / computed
