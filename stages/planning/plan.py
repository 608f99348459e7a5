"""A plan: what runs of some backbones take, what their comparison could find, what stops them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from stages.comparison.verdict import DELTA
from stages.config.errors import UserError
from stages.config.params import Params
from stages.planning import obstacles, power
from stages.planning.backbone import Backbone, Fit, look, twice_as_long
from stages.planning.devices import device_for
from stages.planning.memory import GIB, shares
from stages.planning.power import Design
from stages.planning.several import several
from stages.planning.shape import Shape
from stages.planning.votes import Votes, own_votes
from stages.planning.work import Load, fold
from stages.training.memory import Plan
from stages.tuning.overrides import overridden

HOUR = 3600


@dataclass(frozen=True)
class Wish:
    """What is to be planned, beside the params.

    Attributes:
        device: a key of stages.planning.devices.GPUS; None is what is here.
        seeds: that each backbone is trained with.
        price: of an hour of the device; None leaves money out.
        find: a difference of log loss that a design is wanted for, if any.
        steps: whether to make a few steps if the device is here.
        gpus: how many such devices there are.
    """

    device: str | None = None
    seeds: int = 1
    price: float | None = None
    find: float | None = None
    steps: bool = True
    gpus: int = 1


def read_params(models: Sequence[str], overrides: Sequence[str]) -> list[Params]:
    """The params of each model, or those of the one that params.yaml names.

    Raises:
        UserError: see stages.tuning.overrides.
    """
    given = [[*overrides, f"model={model}"] for model in dict.fromkeys(models)]
    return [overridden(each)[1] for each in given or [list(overrides)]]


def draw_up(tasks: Sequence[Params], wish: Wish) -> dict:
    """The plan of some backbones, as metrics/plan.json holds it.

    Args:
        tasks: the params of each, which differ in the model.

    Raises:
        UserError: the votes cannot be read, or the device is not known or there is one of it.
    """
    device, params = device_for(wish.device), tasks[0]
    if wish.gpus > 1 and not device.cuda:
        raise UserError(
            f"--gpus: expected a device of which there may be several, found {device.name}; name "
            "one with --device, such as h100"
        )
    own, joined = own_votes(params)
    backbones = [look(each, own, joined, device, wish.steps) for each in tasks]
    stops = [f"{each.here.name}: {stop}" for each in backbones for stop in each.stops]
    known = [(each.here, each.shape) for each in backbones if each.shape]
    told = [_backbone(each, wish) for each in backbones]
    disk = obstacles.full(known, len(params.split.folds), wish.seeds) if known else None
    return {
        "votes": _votes(params, own, joined),
        "scale": params.scale,
        "objective": params.train.objective,
        "max_tokens": params.budget.max_tokens,
        "epochs": params.budget.epochs,
        "seeds": wish.seeds,
        "price": wish.price,
        "device": asdict(device),
        "backbones": told,
        "several": _several(told, len(params.split.folds) * wish.seeds, wish.gpus),
        "power": _power(params, own, wish.seeds),
        "cheapest": _cheapest(backbones, own, wish.find) if wish.find else None,
        "stops": stops + [stop for stop in (disk,) if stop],
        "unknown": [unknown for each in backbones for unknown in each.unknown],
    }


def _votes(params: Params, own: Votes, joined: Sequence[Votes]) -> dict:
    evaluated = own.count * (1 - params.split.tuning)
    return {
        "count": own.count,
        "sample": None if own.whole else len(own.sample),
        "joined": sum(each.count for each in joined),
        "reserved": round(own.count - evaluated),
        "folds": len(params.split.folds),
        "held_out": round(evaluated / len(params.split.folds)),
    }


def _backbone(found: Backbone, wish: Wish) -> dict:
    memory = time = longer = None
    params = found.params
    if found.shape and found.fit:
        memory = _memory(found.shape, params, found.fit.plan)
        time = _time(found, found.fit, found.load, params, wish)
    if found.fit_longer:
        longer = _time(found, found.fit_longer, found.longer, twice_as_long(params), wish)
    return {
        "model": found.params.model,
        "checkpoint": found.here.name,
        "configuration": found.here.shape or ("its own" if found.here.folder else None),
        "tokens": _tokens(found),
        "way": found.shape and found.shape.way,
        "memory": memory,
        "time": time,
        "time_at_twice": longer,
    }


def _tokens(found: Backbone) -> dict:
    of_fold, of_longer = fold(found.load, found.params), fold(found.longer, found.params)
    return {
        "counted_by": found.counter.name,
        "error": found.counter.error,
        "error_of_sample": found.load.lengths.error,
        "a_vote": found.load.lengths.mean,
        "training": round(of_fold.training),
        "held_out": round(of_fold.prediction),
        "truncated": found.load.lengths.truncated,
        "truncated_at_twice": found.longer.lengths.truncated,
        "times_as_many_at_twice": of_longer.training / of_fold.training,
    }


def _memory(shape: Shape, params: Params, plan: Plan) -> dict:
    return {
        "layers": plan.layers,
        "recomputed": plan.recomputed,
        "row_tokens": plan.row_tokens,
        "peak": plan.peak / GIB,
        "limit": plan.limit / GIB,
        **{name: size / GIB for name, size in shares(shape, params, plan).items()},
    }


def _time(found: Backbone, fit: Fit, load: Load, params: Params, wish: Wish) -> dict:
    """Hours of all folds and seeds; the range is that of speed and tokens together."""
    times = len(params.split.folds) * wish.seeds / HOUR
    start, training, held_out = (times * each for each in fold(load, params).seconds(fit.speed))
    counted = (found.counter.error**2 + (2 * load.lengths.error) ** 2) ** 0.5
    error = (fit.speed.error**2 + counted**2) ** 0.5
    total = start + training + held_out
    low, high = total / (1 + error), total * (1 + error)
    hours = {"start": start, "training": training, "held_out": held_out, "total": total}
    price = wish.price or 0.0
    money = {"cost": total * price, "cost_low": low * price, "cost_high": high * price}
    return {
        **hours,
        "low": low,
        "high": high,
        **(money if wish.price else {}),
        "how": fit.speed.how,
        "error": error,
    }


def _several(backbones: list[dict], trainings: int, gpus: int) -> dict | None:
    """Both ways to use several GPUs, where the time of all backbones is known."""
    times = [each["time"] for each in backbones]
    if gpus == 1 or None in times:
        return None
    each = [(time["start"], time["training"] + time["held_out"]) for time in times]
    one = [(start / trainings, rest / trainings) for start, rest in each]
    return asdict(several(one * trainings, gpus))


def _power(params: Params, own: Votes, seeds: int) -> dict:
    """The chance to find each of some differences, with the fold effect at best and at worst."""
    votes = round(own.count * (1 - params.split.tuning))
    design = Design(votes, len(params.split.folds), seeds)
    effects = power.fold_effects(params.train.objective, votes)
    return {
        "fold_effects": effects,
        "chances": [
            {"difference": difference}
            | {
                case: power.chance(design, difference, effect, DELTA)
                for case, effect in effects.items()
            }
            for difference in power.DIFFERENCES
        ],
    }


def _cheapest(backbones: Sequence[Backbone], own: Votes, difference: float) -> dict:
    """The designs of least cost that find a difference, by the fold effect."""
    params = backbones[0].params

    def hours(design: Design) -> float:
        """Of two backbones, or of all that are planned."""
        seconds = [
            design.folds * design.seeds * sum(_of_design(each, design)) for each in backbones
        ]
        return sum(seconds) * (2 if len(backbones) == 1 else 1) / HOUR

    most = round(own.count * (1 - params.split.tuning))
    found = {}
    for case in ("best", "worst"):
        design = power.cheapest(difference, most, params.train.objective, case, DELTA, hours)
        found[case] = design and {
            **asdict(design[0]),
            "chance": design[1],
            "hours": hours(design[0]) if all(each.fit for each in backbones) else None,
        }
    return {"difference": difference, "wanted": power.WANTED, "most_votes": most, **found}


def _of_design(found: Backbone, design: Design) -> tuple[float, ...]:
    """Seconds of a fold of a design; its tokens where no speed is known, to order designs by."""
    share = 1 - found.params.split.tuning
    of_fold = fold(
        replace(found.load, votes=round(design.votes / share)), found.params, design.folds
    )
    if found.fit is None:
        return of_fold.training, of_fold.prediction
    return of_fold.seconds(found.fit.speed)
