"""What is tried: the ranges of the section `tune`, each with its place in params.yaml."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pandas as pd
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from stages.config.errors import UserError
from stages.config.params import Params, nearest, validated
from stages.config.tune import Range

Value = bool | int | float | str
Distribution = FloatDistribution | IntDistribution | CategoricalDistribution
# Of what a trial reads, what is no setting: votes and seeds are drawn, each objective and each
# checkpoint is tuned by itself, and the rest changes no number.
NO_SETTINGS = {
    "train": {"seed", "objective", "log_steps", "save_steps"},
    "scale": {"rows", "size"},
    "checkpoint": {"hub", "package", "folder", "name", "lr", "quantised"},
}


@dataclass(frozen=True)
class Setting:
    """One setting that is tried.

    Attributes:
        name: as the ranges call it.
        place: dotted, in params.yaml.
        given: whether params.yaml has it.
        distribution: Optuna's, of the values to try.
        present: the value that params.yaml has, or that it leaves at its default.
    """

    name: str
    place: str
    given: bool
    distribution: Distribution
    present: Any

    @property
    def ends(self) -> list[Value]:
        """The values between which all others lie, or all choices."""
        if isinstance(self.distribution, CategoricalDistribution):
            return [choice for choice in self.distribution.choices if choice is not None]
        return [self.distribution.low, self.distribution.high]

    @property
    def tries_present(self) -> bool:
        """Whether the present value is one of those to try."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.present in self.distribution.choices
        return self.distribution.low <= self.present <= self.distribution.high

    def told(self, value: Any) -> Value:
        """A value of the distribution as it is used and written: a float to three digits."""
        if not isinstance(self.distribution, FloatDistribution):
            return value
        low, high = self.distribution.low, self.distribution.high
        return min(max(float(f"{value:.3g}"), low), high)

    def override(self, value: Value) -> str:
        """The value as `dvc exp run -S` takes it."""
        written = str(value).lower() if isinstance(value, bool) else str(value)
        return f"{'' if self.given else '+'}{self.place}={written}"


def space(raw: dict, params: Params, ranges: Mapping[str, Range]) -> dict[str, Setting]:
    """The settings to try for the chosen backbone, objective and scale, by name.

    `sft` trains no head of its own: its rate is left out.

    Raises:
        UserError: a name is none of a setting, or one of its values is not valid.
    """
    places = _places(raw, params)
    headless = ["head_lr"] if params.train.objective == "sft" else []
    found = {
        name: _setting(name, wanted, raw, params, places)
        for name, wanted in ranges.items()
        if name not in headless
    }
    for setting in found.values():
        for value in setting.ends:
            _check(raw, setting, value)
    return found


def present(settings: Mapping[str, Setting]) -> dict[str, Value] | None:
    """The values that params.yaml has, as trials have theirs; None if a range leaves one out."""
    if not all(setting.tries_present for setting in settings.values()):
        return None
    return {name: setting.told(setting.present) for name, setting in settings.items()}


def with_values(raw: dict, settings: Mapping[str, Setting], values: Mapping[str, Value]) -> dict:
    """A copy of the mapping with values, by name, in the places of their settings."""
    changed = copy.deepcopy(raw)
    for name, value in values.items():
        *sections, key = settings[name].place.split(".")
        reduce(lambda section, each: section[each], sections, changed)[key] = value
    return changed


def _setting(
    name: str, wanted: Range, raw: dict, params: Params, places: dict[str, str]
) -> Setting:
    if name not in places:
        raise UserError(f"tune.ranges.{name}: unknown setting{nearest(name, places)}")
    place = places[name]
    *sections, key = place.split(".")
    given = key in reduce(lambda section, each: section[each], sections, raw)
    present = _value(params, place)
    return Setting(name, place, given, _distribution(wanted, present), present)


def _distribution(wanted: Range, present: object) -> Distribution:
    """Whole numbers if the ends are and the setting is no float."""
    if wanted.choices is not None:
        return CategoricalDistribution(wanted.choices)
    low, high = wanted.ends
    if isinstance(low, int) and isinstance(high, int) and not isinstance(present, float):
        return IntDistribution(low, high, log=wanted.log)
    return FloatDistribution(low, high, log=wanted.log)


def _check(raw: dict, setting: Setting, value: Value) -> None:
    try:
        validated(with_values(raw, {setting.name: setting}, {setting.name: value}), "params.yaml")
    except UserError as error:
        problems = " ".join(str(error).split()).removeprefix("params.yaml is not valid: ")
        raise UserError(
            f"tune.ranges.{setting.name}: {value} is no value of it: {problems}"
        ) from None


def _places(raw: dict, params: Params) -> dict[str, str]:
    """The places of all that may be tuned, by name: dotted ones, and the short ones."""
    scale, size = f"scales.{params.scale}", params.budget.size
    checkpoint, objective = f"backbones.{params.model}.{size}", params.train.objective
    several = isinstance(raw["backbones"][params.model][size]["lr"], dict)
    lr = f"{checkpoint}.lr.{objective}" if several else f"{checkpoint}.lr"
    sections = {
        "prompt": params.prompt.model_dump(),
        "train": params.train.model_dump(exclude=NO_SETTINGS["train"]),
        scale: params.budget.model_dump(exclude=NO_SETTINGS["scale"]),
        checkpoint: params.checkpoint.model_dump(exclude=NO_SETTINGS["checkpoint"]),
    }
    dotted = [f"{name}.{key}" for name, part in sections.items() for key in _flat(part)]
    short = {"lr": lr, "head_lr": f"{checkpoint}.head_lr", "epochs": f"{scale}.epochs"}
    return {place: place for place in [*dotted, lr]} | short


def _flat(section: dict) -> list[str]:
    return list(pd.json_normalize(section).columns)


def _value(params: Params, place: str) -> object:
    """What params have at a place; a rate is a float whatever objectives it is for."""
    if "lr" in place.split("."):
        return params.adapter_lr / params.budget.lr_factor
    return reduce(lambda section, key: section[key], place.split("."), params.model_dump())
