"""A verdict on losses that someone wrote down: what can be concluded from them, and what not."""

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from pydantic import Field, ValidationError, model_validator

from stages.config.data import Section
from stages.config.errors import UserError
from stages.config.params import explain

# A validation loss nearer to the class prior than this has learned nothing worth a claim.
NOTHING = 0.005
# A head that starts at zero has a first loss of ln 3, or ln 2 without ties; one this much above
# it does not.
START = 0.2
FAR = 0.02  # from what others report, beyond what splits and seeds explain

Loss = Annotated[float, Field(gt=0)]  # in nats


class Counts(Section):
    """Votes of each class."""

    a: Annotated[int, Field(ge=0)]
    b: Annotated[int, Field(ge=0)]
    tie: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _any(self) -> "Counts":
        if not self.a + self.b + self.tie:
            raise ValueError("expected votes, found none of any class")
        return self


class Run(Section):
    """What is known of one run; log losses in nats."""

    validation_loss: Loss | None = None
    training_losses: dict[int, Loss] = Field(default_factory=dict)  # by step


class Summary(Section):
    """A table of losses, such as people post."""

    votes: Counts
    published: Loss | None = None  # log loss of others under this recipe
    runs: Annotated[dict[str, Run], Field(min_length=2)]

    @property
    def classes(self) -> int:
        """How many the votes are for: 3, or 2 without ties."""
        return 3 if self.votes.tie else 2

    @property
    def prior(self) -> float:
        """The log loss of always answering the class shares: their entropy."""
        counts = np.array([self.votes.a, self.votes.b, self.votes.tie])
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares * np.log(shares)).sum())


def load(path: Path) -> Summary:
    """Read a table.

    Raises:
        UserError: it is missing, is no YAML, or a key or value is not as typed above.
    """
    try:
        return Summary.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    except ValidationError as error:
        problems = "\n".join(f"  {explain(problem, Summary)}" for problem in error.errors())
        raise UserError(f"{path} is not valid:\n{problems}") from None


def assess(summary: Summary) -> dict:
    """The verdict, `invalid` or `undecided`: losses without predictions prove nothing better.

    Returns:
        verdict, sentence, reasons (why it is invalid) and suspicions.
    """
    reasons = [
        reason for name, run in summary.runs.items() for reason in _broken(name, run, summary.prior)
    ]
    suspicions = [
        s for name, run in summary.runs.items() for s in _suspicions(name, run, summary.classes)
    ]
    suspicions += _ranked_differently(summary.runs) + _against_published(summary)
    suspicions.append("no interval is given: one split and one seed tell nothing of chance")
    if reasons:
        verdict, sentence = "invalid", f"No verdict: {'; '.join(reasons)}."
    else:
        verdict = "undecided"
        sentence = (
            "A table of losses cannot settle it: a verdict needs each run's predictions of the "
            "same votes."
        )
    return {
        "verdict": verdict,
        "sentence": sentence,
        "prior": summary.prior,
        "reasons": reasons,
        "suspicions": suspicions,
    }


def _broken(name: str, run: Run, prior: float) -> list[str]:
    loss = run.validation_loss
    if loss is None:
        return [f"{name} has no validation loss, and a training loss cannot take its place"]
    if abs(loss - prior) < NOTHING:
        return [
            f"{name}'s validation loss of {loss:g} lies at the class prior, {prior:.4f}: it has "
            "learned nothing"
        ]
    if loss > prior:
        return [f"{name}'s validation loss of {loss:g} is worse than the class prior, {prior:.4f}"]
    return []


def _suspicions(name: str, run: Run, classes: int) -> list[str]:
    losses = [loss for _, loss in sorted(run.training_losses.items())]
    if not losses:
        return []
    told = []
    uniform = math.log(classes)
    if losses[0] > uniform + START:
        told.append(
            f"{name} starts at a training loss of {losses[0]:g}, far above ln {classes} = "
            f"{uniform:.4f}: "
            "a head that does not start at zero, or a loss over the whole vocabulary"
        )
    worst = max(range(1, len(losses)), key=lambda i: losses[i] - losses[i - 1], default=0)
    if worst and losses[worst] > losses[worst - 1] + START:
        told.append(
            f"{name}'s training loss rises from {losses[worst - 1]:g} to {losses[worst]:g}: the "
            "learning rate is too high, or the steps shown are too few to tell"
        )
    if run.validation_loss and losses[-1] > run.validation_loss + START:
        told.append(
            f"{name}'s last training loss shown, {losses[-1]:g}, is far above its validation loss, "
            f"{run.validation_loss:g}: the two do not measure the same, or the curve ends early"
        )
    return told


def _ranked_differently(runs: dict[str, Run]) -> list[str]:
    """Whether some pair's last training losses and validation losses disagree on who is ahead."""
    validation = {
        name: run.validation_loss
        for name, run in runs.items()
        if run.validation_loss and run.training_losses
    }
    last = {name: max(runs[name].training_losses.items())[1] for name in validation}
    by_training = sorted(last, key=last.__getitem__)
    by_validation = sorted(validation, key=validation.__getitem__)
    if by_training == by_validation:
        return []
    return [
        f"training losses rank the runs {' < '.join(by_training)}, validation losses "
        f"{' < '.join(by_validation)}: only the latter count"
    ]


def _against_published(summary: Summary) -> list[str]:
    if summary.published is None:
        return []
    return [
        f"{name}'s validation loss of {run.validation_loss:g} is "
        f"{run.validation_loss - summary.published:.3f} above what others report under this "
        f"recipe, {summary.published:g}"
        for name, run in summary.runs.items()
        if run.validation_loss and run.validation_loss > summary.published + FAR
    ]


def text(assessment: dict) -> str:
    """The assessment in words."""
    return "\n".join(
        [
            f"{assessment['verdict'].upper()}. {assessment['sentence']}",
            f"The class prior of these votes is {assessment['prior']:.4f}.",
            *(f"  suspicious: {suspicion}" for suspicion in assessment["suspicions"]),
        ]
    )
