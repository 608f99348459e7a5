"""What is to be tuned: read and checked before a GPU is asked for, and free of torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.config.errors import UserError
from stages.config.params import Params, validated
from stages.config.tune import Tune
from stages.tuning.inner import Inner, inner_split
from stages.tuning.overrides import overridden
from stages.tuning.space import Setting, Value, space, with_values


@dataclass(frozen=True)
class Task:
    """The tuning of one backbone.

    Attributes:
        overrides: KEY=VALUE, as `dvc exp run -S` takes them.
        raw: the mapping that params.yaml becomes by them.
        params, tune: the same, validated.
        settings: what is tried, by name.
    """

    overrides: Sequence[str]
    raw: dict
    params: Params
    tune: Tune
    settings: dict[str, Setting]
    inner: Inner

    def changed(self, values: dict[str, Value]) -> Params:
        """The params with values of the settings, by name.

        Raises:
            UserError: they are not valid together.
        """
        return validated(with_values(self.raw, self.settings, values), f"params.yaml with {values}")


def read_tasks(models: Sequence[str], overrides: Sequence[str]) -> list[Task]:
    """A task for each model; without any, that of the model which params name.

    Raises:
        UserError: see stages.tuning.overrides, space and inner.
    """
    given = [[*overrides, f"model={model}"] for model in models] or [list(overrides)]
    return [_task(each) for each in given]


def _task(overrides: list[str]) -> Task:
    raw, params = overridden(overrides)
    if params.tune is None:
        raise UserError("params.yaml has no section `tune`: copy that of the project's repository")
    if params.teacher.teaches:
        raise UserError(
            "expected no teacher: it may have been trained on the reserved votes, which would "
            "flatter every trial; tune without it (`-S teacher.from=null`, `-S "
            "teacher.predictions=[]`), and train the winner with it"
        )
    settings = space(raw, params, params.tune.ranges)
    return Task(overrides, raw, params, params.tune, settings, inner_split(raw, params))
