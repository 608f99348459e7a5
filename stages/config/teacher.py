"""The section `teacher` of params.yaml: who says what beside the votes."""

from pathlib import Path

from pydantic import ConfigDict, Field, field_validator, model_validator

from stages.config.data import Section, Share


class Pairs(Section):
    """A file or a folder of pairs without votes."""

    raw: str  # path
    source: str | None = None  # its name in the table of votes; None is the file's
    weight: float = Field(default=1, gt=0)  # of each of its pairs


class Predictions(Section):
    """A file of probabilities by id."""

    raw: str  # path


class Teacher(Section):
    """Knowledge distillation (Hinton et al. 2015): soft targets for votes and for further pairs."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    run: str | None = Field(default=None, alias="from")  # an experiment or a git revision
    predictions: list[Predictions] = Field(default=[])  # files in its place
    pairs: list[Pairs] = Field(default=[])  # trained on by what the teacher says of them
    weight: Share = 0.5  # of the teacher's probabilities in a vote's target
    temperature: float = Field(default=1, gt=0)  # above 1 it says less surely what it says

    @property
    def teaches(self) -> bool:
        """Whether there is a teacher."""
        return self.run is not None or bool(self.predictions)

    @field_validator("run")
    @classmethod
    def _no_file(cls, given: str | None) -> str | None:
        # DVC has to see a file as a dependency, and one key cannot be a name and a path.
        if given is not None and Path(given).is_file():
            raise ValueError(
                "expected the name of an experiment or a git revision; list a file of predictions "
                f"in teacher.predictions: `-S 'teacher.predictions=[{{raw:{given}}}]'`"
            )
        return given

    @model_validator(mode="after")
    def _one_teacher(self) -> "Teacher":
        if self.run is not None and self.predictions:
            raise ValueError("expected one teacher, found both `from` and `predictions`")
        if self.pairs and not self.teaches:
            raise ValueError(
                "pairs without votes need a teacher: name a run in `from`, or files in "
                "`predictions` that hold predictions for their ids"
            )
        return self
