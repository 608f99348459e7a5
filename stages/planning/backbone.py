"""One backbone of a plan: its tokens, sizes, memory and speed, and what would stop it."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from stages.config.errors import UserError
from stages.config.params import Params
from stages.planning import obstacles
from stages.planning.checkpoint import Here, any_tokenizer, find, save_configuration
from stages.planning.devices import Device
from stages.planning.memory import plan_for
from stages.planning.shape import NoShape, Shape, shape
from stages.planning.speed import Speed, reckon
from stages.planning.tokens import (
    ERROR_OF_ANOTHER,
    ERROR_OF_CHARACTERS,
    Counter,
    Lengths,
    lengths,
)
from stages.planning.votes import Votes
from stages.planning.work import Load
from stages.preflight.candidate import Candidate
from stages.training.gates.gate import GateFailed
from stages.training.memory import Plan

LONGEST_STEP = 60.0  # seconds; longer ones are not tried


@dataclass(frozen=True)
class Fit:
    """How a backbone fits a device at some max_tokens: what a step keeps, and its speed."""

    plan: Plan
    speed: Speed


@dataclass(frozen=True)
class Backbone:
    """What is known of a backbone.

    Attributes:
        counter: what its tokens are counted by.
        load: its votes and their tokens; longer: the same at twice the max_tokens.
        shape: None where its configuration is not here, or it cannot serve.
        fit: on the device; None where it is not known, or does not fit. fit_longer: likewise.
        stops: what would stop it; unknown: what could, and is not known here.
    """

    params: Params
    here: Here
    counter: Counter
    load: Load
    longer: Load
    shape: Shape | None
    fit: Fit | None
    fit_longer: Fit | None
    stops: list[str]
    unknown: list[str]


def look(params: Params, own: Votes, joined: list[Votes], device: Device, steps: bool) -> Backbone:
    """Look at a backbone, as far as it is here; nothing is downloaded.

    Args:
        own: the votes of the run; joined: what is trained on beside them.
        steps: whether to make a few steps if the device is here.
    """
    here = find(params.checkpoint)
    counter = counter_for(here, params)
    load, longer = _loads(own, joined, counter, params)
    told = obstacles.closed(here, params.checkpoint.source), obstacles.no_flash4(params, device)
    stops = [stop for stop, _ in told if stop]
    unknown = [unknown for _, unknown in told if unknown]
    sizes, fit, fit_longer, no_fp8 = None, None, None, obstacles.no_fp8(params, device)
    try:
        found = _candidate(here, params)
        if found is None:
            unknown.append(_no_configuration(here, params))
        else:
            sizes = shape(found)
            no_fp8 = no_fp8 or obstacles.fp8_beside(params, found.config, sizes.way)
            fit = fitted(sizes, params, device, load.lengths)
            fit_longer = _if_it_fits(sizes, twice_as_long(params), device, longer.lengths)
            if steps and device.here and not no_fp8 and _short(fit.speed, params, load.lengths):
                fit, fit_longer = _tried(found, params, load.lengths, fit, fit_longer)
    except NoShape as error:
        unknown.append(str(error))
    except GateFailed as error:  # of random weights, which says little of a checkpoint's own
        unknown.append(f"what a few steps of {here.name} would show: {error}")
    except UserError as error:
        stops.append(str(error))
    if no_fp8:
        stops.append(no_fp8)
    return Backbone(params, here, counter, load, longer, sizes, fit, fit_longer, stops, unknown)


def counter_for(here: Here, params: Params) -> Counter:
    """What counts the backbone's tokens: its tokenizer, or another, or characters."""
    if here.tokenizer:
        return Counter(here.tokenizer, here.name)
    if other := any_tokenizer(params):
        return Counter(other[1], other[0], ERROR_OF_ANOTHER)
    return Counter(None, None, ERROR_OF_CHARACTERS)


def _loads(own: Votes, joined: list[Votes], counter: Counter, params: Params) -> tuple[Load, Load]:
    """The votes of a run with their tokens, at max_tokens and at twice as many."""
    of_own = lengths(own.sample, counter, params)
    of_joined = [lengths(each.sample, counter, params) for each in joined]
    count = sum(each.count for each in joined)
    tokens = [
        sum(each.count * found[i].mean for each, found in zip(joined, of_joined, strict=True))
        for i in (0, 1)
    ]
    now, longer = (Load(own.count, of_own[i], count, tokens[i]) for i in (0, 1))
    return now, longer


def _candidate(here: Here, params: Params) -> Candidate | None:
    """What its small files say, if its configuration is here or published.

    Raises:
        UserError: it cannot serve.
    """
    if here.folder is None and here.shape is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = save_configuration(here, Path(name))
        obstacles.require_fit(folder, here, params)
        found = Candidate(folder, here.name, params)
        found.config  # noqa: B018  # read while it is there
        return found


def _no_configuration(here: Here, params: Params) -> str:
    size = params.budget.size
    return (
        f"how large {here.name} is, and whether it can serve {params.train.objective}: its "
        "config.json is not here. Run "
        f"`dvc exp run -S model={params.model} weights`, or put its small files in a folder and "
        f"name that in backbones.{params.model}.{size} as `folder:`"
    )


def fitted(found: Shape, params: Params, device: Device, tokens: Lengths) -> Fit:
    """How a backbone fits a device.

    Raises:
        UserError: it does not.
    """
    plan = plan_for(found, params, device)
    batch = params.budget.batch_size * tokens.mean
    fp8 = params.train.fp8 and found.way == "fast"  # experts have no such products
    return Fit(plan, reckon(found, device, plan, tokens.span, batch, fp8))


def _if_it_fits(found: Shape, params: Params, device: Device, tokens: Lengths) -> Fit | None:
    try:
        return fitted(found, params, device, tokens)
    except UserError:
        return None


def _short(speed: Speed, params: Params, tokens: Lengths) -> bool:
    """Whether a step takes a moment, as far as is known."""
    return speed.training * tokens.mean * params.budget.batch_size < LONGEST_STEP


def _tried(
    found: Candidate, params: Params, tokens: Lengths, fit: Fit, longer: Fit | None
) -> tuple[Fit, Fit | None]:
    """The same as a few steps show it here; at twice the max_tokens, as far off as they are."""
    from stages.planning.measured import measure  # takes seconds, and the trainings' libraries

    plan, speed = measure(found.text, params, tokens)
    now = Fit(plan if plan.limit else fit.plan, speed)
    if longer is None:
        return now, None
    ratios = (
        speed.training / fit.speed.training,
        speed.held_out / fit.speed.held_out,
    )
    slower = replace(
        speed,
        training=longer.speed.training * ratios[0],
        held_out=longer.speed.held_out * ratios[1],
    )
    return now, Fit(longer.plan, slower)


def twice_as_long(params: Params) -> Params:
    """The params with twice the max_tokens, and rows that hold as many."""
    budget = params.budget
    most = 2 * budget.max_tokens
    longer = budget.model_copy(
        update={"max_tokens": most, "token_budget": max(budget.token_budget, most)}
    )
    return params.model_copy(update={"scales": params.scales | {params.scale: longer}})
