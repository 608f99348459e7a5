"""What is trained before each look: more folds of the first seed, then further seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.config.errors import UserError
from stages.tuning.overrides import overridden

FEWEST = 3  # folds at the first look: a t interval over two is 13 standard errors wide
OWN = {"model": "--models", "train.seed": "--seeds"}  # keys of params.yaml with an option for each
GROWING = ("split.folds", "split.of")  # keys that each step has its own values of


@dataclass(frozen=True)
class Step:
    """What every backbone that is still in question has been trained on by a look.

    Attributes:
        seed: of the training; earlier seeds are trained in all folds by then.
        folds: how many are trained with that seed.
        new: how many trainings of a fold this adds for each backbone.
    """

    seed: int
    folds: int
    new: int


@dataclass(frozen=True)
class Plan:
    """All looks, as they are planned before the first.

    Attributes:
        overrides: KEY=VALUE, as `dvc exp run -S` takes them, for every training.
        steps: one before each look.
        dealt: how many folds the votes are dealt into.
    """

    models: list[str]
    overrides: list[str]
    steps: list[Step]
    dealt: int

    def runs(self, number: int) -> list[Step]:
        """The steps whose runs a look compares, numbered from 1: the last of each seed so far."""
        return list({step.seed: step for step in self.steps[:number]}.values())

    def of_step(self, model: str, step: Step) -> list[str]:
        """The overrides of a model's run."""
        folds = ",".join(map(str, range(step.folds)))
        return [
            *self.overrides,
            f"model={model}",
            f"train.seed={step.seed}",
            f"split.folds=[{folds}]",
            f"split.of={self.dealt}",
        ]


def read_plan(models: list[str], seeds: list[int], overrides: Sequence[str]) -> Plan:
    """Plan the looks: the folds are those of params.yaml with the overrides.

    Args:
        seeds: of the training; without any, that of params.yaml.

    Raises:
        UserError: there are too few models or folds, or params.yaml is not valid with the
            overrides.
    """
    if len(models) < 2:
        raise UserError(f"--models: expected two or more, found {', '.join(models)}")
    for key, option in OWN.items():
        if any(_key(each) == key for each in overrides):
            raise UserError(f"expected {option} in place of -S {key}=…, which all runs would share")
    read = [overridden([*overrides, f"model={model}"])[1] for model in models]
    split, seeds = read[0].split, seeds or [read[0].train.seed]
    if len(split.folds) < FEWEST:
        raise UserError(
            f"expected {FEWEST} folds or more to look at, found {len(split.folds)} in split.folds: "
            "give -S 'split.folds=[0,1,2,3,4]'"
        )
    fixed = [each for each in overrides if _key(each) not in GROWING]
    return Plan(models, fixed, steps(seeds, len(split.folds)), split.dealt)


def steps(seeds: Sequence[int], folds: int) -> list[Step]:
    """A step for each number of folds of the first seed, from FEWEST, and for each other seed."""
    first, *others = seeds
    growing = [Step(first, FEWEST, FEWEST)]
    growing += [Step(first, count, 1) for count in range(FEWEST + 1, folds + 1)]
    return [*growing, *(Step(seed, folds, folds) for seed in others)]


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]
