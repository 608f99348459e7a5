"""The section `tune` of params.yaml: which settings are tried, and how often."""

from pydantic import Field, StrictBool, model_validator

from stages.config.data import Positive, Section


class Range(Section):
    """What values of a setting are tried: from low to high, or choices."""

    low: int | float | None = None
    high: int | float | None = None
    log: StrictBool = False  # evenly by ratio
    choices: list[bool | int | float | str] | None = None

    @property
    def ends(self) -> tuple[int | float, ...]:
        """Low and high, where they are given."""
        return tuple(end for end in (self.low, self.high) if end is not None)

    @model_validator(mode="after")
    def _ends_or_choices(self) -> "Range":
        ends = self.ends
        if self.choices is not None:
            if ends or self.log or len(self.choices) < 2:
                raise ValueError("choices stand alone, and are two or more")
        elif len(ends) < 2 or ends[0] >= ends[1]:
            raise ValueError("needs low and a higher high, or choices")
        elif self.log and ends[0] <= 0:
            raise ValueError(f"with log, low must be above 0, found {ends[0]:g}")
        return self


class Tune(Section):
    """What stages.tune tries; no stage of dvc.yaml depends on it."""

    trials: Positive  # of each backbone
    startup: Positive  # trials at random values before the others learn from them
    ranges: dict[str, Range] = Field(min_length=1)  # by setting; stages/tuning/space.py reads them
