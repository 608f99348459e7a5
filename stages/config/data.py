"""The section `data` of params.yaml: files of votes, and how they are read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationInfo, field_validator

from stages.config.errors import UserError

Listed = TypeVar("Listed")
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Meaning = Literal["a", "b", "tie", "both_bad"] | tuple[Share, Share, Share]


class File(Section):
    """A file or a folder of votes; what is left out is found in it."""

    raw: str  # path; see stages/votes/files.py for what it may be
    format: str = "auto"  # or the name of a layout; see stages/votes/layouts.py
    columns: dict[str, str | list[str]] = {}  # theirs by our name
    labels: dict[str | int | float | bool, Meaning] = {}  # what their values mean
    delimiter: str | None = None  # of .csv and .tsv
    encoding: str | None = None  # of files of text

    @field_validator("raw", mode="before")
    @classmethod
    def _one(cls, given: object) -> object:
        if isinstance(given, list):
            raise ValueError("one file or folder; list further ones in data.auxiliary")
        return given

    @property
    def mapped(self) -> dict[str, tuple[str, ...]]:
        """Their columns by our names, one or several each."""
        return {
            name: (theirs,) if isinstance(theirs, str) else tuple(theirs)
            for name, theirs in self.columns.items()
        }

    @field_validator("labels")
    @classmethod
    def _sum_to_one(cls, labels: dict) -> dict:
        for value, meaning in labels.items():
            if isinstance(meaning, tuple) and abs(sum(meaning) - 1) > 1e-6:
                raise ValueError(f"the shares of {value} must sum to 1, found {sum(meaning):g}")
        return labels


class Auxiliary(File):
    """A further file of votes."""

    source: str | None = None  # its name in the table of votes; None is the file's
    weight: float = Field(default=1, gt=0)  # of each of its votes
    training_only: StrictBool = True  # never held out


class Data(File):
    """The raw votes."""

    # Its role, which an Auxiliary may choose.
    source: ClassVar[None] = None
    weight: ClassVar[float] = 1.0
    training_only: ClassVar[bool] = False
    max_quarantined: Share  # share of unreadable rows above which `prepare` stops
    ties: Literal["keep", "drop"] = "keep"
    grades: dict[Positive, Annotated[float, Field(ge=0.5, le=1)]]  # of the better answer
    auxiliary: list[Auxiliary] = []

    @field_validator("auxiliary")
    @classmethod
    def _each_once(cls, files: list[Auxiliary], given: ValidationInfo) -> list[Auxiliary]:
        own = given.data.get("raw", "")  # missing if it was itself refused
        paths = [Path(raw) for raw in (own, *(file.raw for file in files))]
        if again := [path for place, path in enumerate(paths) if path in paths[:place]]:
            raise ValueError(
                f"expected other files than data.raw, and each once, found {again[0]} again: its "
                "votes would be used twice; leave it out"
            )
        return files


def by_key(files: Sequence[Listed], key: str) -> Listed:
    """The file that a matrix of DVC calls file0, file1, … by its place in the list.

    Raises:
        UserError: there is none of that key.
    """
    known = {f"file{place}": file for place, file in enumerate(files)}
    if key not in known:
        raise UserError(f"expected one of {', '.join(known) or 'no file'}, found {key}")
    return known[key]
