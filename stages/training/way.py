"""Which way a run goes through its backbone: the fast one where it is exact, else a plain one."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import PeftModel

from stages.config.errors import UserError, out_of_memory
from stages.config.params import Train
from stages.model import packed, sharding
from stages.model.build import build_plain
from stages.model.examples import Examples
from stages.model.head import round_logits, unround_logits
from stages.model.passes import Compute, WayName
from stages.training.gates.gate import Gate, GateFailed, require
from stages.training.gates.probe import probing
from stages.training.gates.reference import EXACT, SAME, Reference, reference


def load(
    weights: Path, few: Examples, compute: Compute, train: Train
) -> tuple[PeftModel, Compute, Reference]:
    """Load a backbone, and let it compute as fast as it does exactly; see `choose`."""
    device = torch.device("cpu") if sharding.wanted() else compute.device
    model = build_plain(weights, train, device, compute.objective.outputs)
    compute, expected = choose(model, few, compute, train)
    return model, compute, expected


def choose(
    model: PeftModel, few: Examples, compute: Compute, train: Train
) -> tuple[Compute, Reference]:
    """Let a model that transformers and PEFT have made compute as fast as it does exactly.

    The reference is taken first. Then the ways are tried, the fastest first, and the first that
    computes the same is taken.

    Args:
        few: examples that the ways are tried on.

    Returns:
        How it computes, and the reference: what transformers computes of the few examples.

    Raises:
        GateFailed: the last way that may be taken computes something else.
        UserError: the way that was asked for does not serve this backbone.
    """
    here = next(model.parameters()).device
    expected = reference(model, few, replace(compute, device=here))
    failed: list[tuple[Way, Exception]] = []
    for way in _allowed(train):
        taken = replace(compute, way=way.name)
        try:
            way.enter(model, taken, train)
            _tried(model, few, taken, expected)
        except Exception as error:  # whatever an architecture that we do not know raises
            if out_of_memory(error):
                raise
            failed.append((way, error))
            way.leave(model)
            continue
        if failed and way.costs:
            print(f"this backbone goes {way.costs}. Its results are right. {_why_not(failed)}")
        return taken, expected
    raise _refusal(train, failed)


def same(model: PeftModel, few: Examples, compute: Compute, expected: Reference) -> list[Gate]:
    """Run the gates that a model computes what transformers does, as it computes now.

    Raises:
        GateFailed: it does not.
    """
    with probing(model):
        return SAME.require(model, few, compute, expected)


def _tried(model: PeftModel, few: Examples, compute: Compute, expected: Reference) -> None:
    """Run these gates, and in float32 the one that sees what half precision could hide."""
    with probing(model):
        found = SAME.outcomes(model, few, compute, expected)
        if not sharding.sharded(model):
            found += EXACT.outcomes(model, few, compute, expected)
    require(found)


@dataclass(frozen=True)
class Way:
    """A way through a backbone.

    Attributes:
        name: as `Compute` has it.
        short: whether this project computes the last layer, for the tokens that are read alone.
        costs: what it is and what it costs, in words.
    """

    name: WayName
    short: bool = False
    costs: str = ""

    def enter(self, model: PeftModel, compute: Compute, train: Train) -> None:
        """Let a model go this way."""
        if self.name != "fast":
            unround_logits(model)
            return
        packed.put_on(model, train, compute.dtype, compute.device, self.short)
        if sharding.wanted():
            sharding.shard(model, compute.device)

    def leave(self, model: PeftModel) -> None:
        """Make a model again what transformers and PEFT have made it."""
        if self.name != "fast":
            round_logits(model)
        elif not sharding.wanted():  # which cannot be undone
            packed.take_off(model)


SHORT, WHOLE = Way("fast", short=True), Way("fast")
SLOWER = "it is slower, since layers are neither compiled nor recorded"
PLAIN = Way("plain", costs=f"the plain way: {SLOWER}, and shorter examples are padded")
ALONE = Way("alone", costs=f"alone: {SLOWER}, and only examples of equal length go together")


def _allowed(train: Train) -> list[Way]:
    """The ways that may be tried, the fastest first."""
    if sharding.wanted():
        return [SHORT]
    fast, plain = [SHORT, WHOLE], [PLAIN, ALONE]
    if train.objective == "reward":  # whose two texts are of different lengths
        plain.remove(ALONE)
    return {"auto": fast + plain, "fast": fast, "plain": plain}[train.way]


def _refusal(train: Train, failed: list[tuple[Way, Exception]]) -> Exception:
    """What to raise where no way computes what transformers does."""
    if sharding.wanted():
        return UserError(
            f"SHARD=1 needs the fast way. {_why_not(failed)} Unset SHARD, or take another backbone"
        )
    if train.way == "fast":
        return UserError(f"train.way is fast. {_why_not(failed)} Set it to auto")
    last = failed[-1][1]
    if isinstance(last, UserError):
        return last
    return UserError(f"this backbone cannot be trained. {_why_not(failed)} Take another backbone")


def _why_not(failed: list[tuple[Way, Exception]]) -> str:
    """Why ways are not taken, each once, as its last attempt failed."""
    last = {way.name: error for way, error in failed}
    return " ".join(f"The {name} way {_reason(error)}." for name, error in last.items())


def _reason(error: Exception) -> str:
    if isinstance(error, GateFailed):
        found = "; ".join(f"{g.name}: {g.value}, expected {g.expected}" for g in error.gates)
        return f"does not compute what transformers does ({found})"
    return f"fails on its layers ({type(error).__name__}: {error})"
