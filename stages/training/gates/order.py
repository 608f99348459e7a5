"""The gates in the order in which a fold meets them."""

from peft import PeftModel

from stages.model.examples import Examples
from stages.model.passes import Compute
from stages.training.gates import model as built
from stages.training.gates import passes, reference, speed, votes
from stages.training.gates.gate import Gate, require
from stages.training.gates.probe import logits_of, probing

PHASES = (
    votes.ALL,
    votes.SHOWN,
    built.BUILT,
    reference.EXACT,
    reference.SAME,
    passes.FIRST,
    passes.PROBED,
    speed.COMPILED,
    speed.FP8,
    speed.RECORDED,
    passes.LOSS,
    built.TRAINED,
)


def before_loading(training: Examples, held_out: Examples, truth: votes.Truth) -> list[Gate]:
    """Run the gates on all examples of a fold.

    Args:
        truth: the target of each battle that is trained on, by id.

    Raises:
        GateFailed: naming every gate that failed.
    """
    return votes.ALL.require(training, held_out, truth)


def before_training(
    model: PeftModel, few: Examples, compute: Compute, quantised: float
) -> list[Gate]:
    """Run every gate on the model that comes before the first step.

    Args:
        few: real examples, some of usual length and the longest.
        quantised: which share of the layers' weights has to be; 0 is none.

    Raises:
        GateFailed: naming every gate that failed; first those that need no pass of the model.
    """
    model.eval()
    by_sight = require(votes.SHOWN.outcomes(few) + built.BUILT.outcomes(model, compute, quantised))
    tried = passes.FIRST.outcomes(model, few, compute)
    with probing(model):
        trial = passes.Trial(model, few, compute, logits_of(model, few, compute))
        tried += passes.PROBED.outcomes(trial)
    return by_sight + require(tried)


def after_training(model: PeftModel) -> list[Gate]:
    """Run the gates on what training has left.

    Raises:
        GateFailed: naming every gate that failed.
    """
    return built.TRAINED.require(model)
