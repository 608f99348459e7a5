"""A finished run as reports and comparisons read it: params, metrics, curves, out-of-fold rows."""

import contextlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from stages.config import paths
from stages.config.errors import UserError
from stages.config.paths import (
    BASELINES_METRICS,
    BATTLES,
    BLEND,
    BLENDS,
    LOCK,
    METRICS,
    OUT_OF_FOLD,
    PARAMS,
    PROVENANCE,
    SUMMARIES,
)
from stages.runs import revisions
from stages.runs.files import is_blend, read_json, require, require_blend
from stages.runs.lock import check_params, hashes, read_lock
from stages.scoring.baselines import TITLES
from stages.scoring.bootstrap import ENDS
from stages.scoring.learning import REFERENCES
from stages.scoring.predictions import columns_of
from stages.votes.labels import TARGETS, Votes, votes_of

WORKSPACE = "workspace"
RESULTS = (PARAMS, LOCK, METRICS, PROVENANCE, BASELINES_METRICS, SUMMARIES, OUT_OF_FOLD)
MLFLOW_RUN = re.compile(r"(?:runs:/)?([0-9a-f]{32})")


@dataclass(frozen=True)
class Result:
    """One pipeline run, or a blend of several.

    Attributes:
        name: as the user asked for it: a branch, an experiment, an MLflow run, a folder, or
            `workspace`.
        params: all of that run's params.yaml; of a blend, those of its first member.
        metrics: its metrics/metrics.json.
        baselines: its metrics/baselines.json, a row a baseline with interval.
        folds: its metrics/folds/fold-K.json, in order; of a blend, those of all its members.
        curves: their curves: step, epoch, training_loss, validation_loss, lr, grad_norm; a blend
            has none.
        rows: its out-of-fold table, as stages.scoring.out_of_fold.out_of_fold_table makes it.
        raw_votes: MD5 of their file.
        members: of a blend, the runs in it.
    """

    name: str
    params: dict
    metrics: dict
    baselines: dict
    folds: list[dict]
    curves: list[pd.DataFrame]
    rows: pd.DataFrame
    raw_votes: str
    members: Sequence["Result"] = ()

    @property
    def checkpoint(self) -> str:
        """The checkpoint's name, which says more than the family's; of a blend, its own."""
        if self.members:
            return f"blend {self.metrics['blend']}"
        return self.folds[0]["checkpoint"]["checkpoint"]

    @property
    def reference(self) -> str:
        """The baseline that it has to beat to have learned."""
        return self.metrics.get("reference", "prior")  # which older runs do not name

    @property
    def reference_title(self) -> str:
        """What sentences call that baseline."""
        if self.members and self.reference != "prior":
            return f"baseline {TITLES[self.reference]}"
        return REFERENCES[self.reference]

    @property
    def to_beat(self) -> float:
        """The log loss of that baseline."""
        return self.metrics["baselines"][self.reference]

    @property
    def gain(self) -> tuple[float, float, float]:
        """The gain over it, and the ends of its interval."""
        mean, low, high = (self.metrics[f"gain_over_{self.reference}{end}"] for end in ENDS)
        return mean, low, high

    @property
    def budget(self) -> dict:
        """The chosen scale's section of the params."""
        return self.params["scales"][self.params["scale"]]

    @property
    def dealt(self) -> int:
        """How many folds the votes are dealt into; fewer may be trained and evaluated."""
        split = self.params["split"]
        return split.get("of") or len(split["folds"])  # older runs have no `of`

    @property
    def trained_folds(self) -> str:
        """How many of these folds are, in words."""
        count = len(self.params["split"]["folds"])
        return str(count) if count == self.dealt else f"{count} of {self.dealt}"

    @property
    def given(self) -> list[str]:
        """How length and format were given to the backbone, or to a blend's, if they were."""
        every = [run.params for run in self.runs]
        ways = {
            "counts in the prompt": any(params["prompt"].get("counts") for params in every),
            "offset": any(params["train"].get("offset") for params in every),
        }
        return [way for way, taken in ways.items() if taken]

    @property
    def runs(self) -> Sequence["Result"]:
        """The members of a blend; else the run itself."""
        return self.members or [self]

    def probabilities(self, name: str) -> np.ndarray:
        """Out-of-fold probabilities (n, C), named as stages.scoring.out_of_fold names them."""
        return self.rows[columns_of(self.rows, name)].to_numpy()

    @property
    def votes(self) -> Votes:
        """The votes on its rows."""
        return votes_of(self.rows)


def titles(results: Sequence[Result]) -> list[str]:
    """How each run is called: its checkpoint, and its name where that is not enough."""
    checkpoints = [result.checkpoint for result in results]
    return [
        name if checkpoints.count(name) == 1 else f"{name} ({result.name})"
        for name, result in zip(checkpoints, results, strict=True)
    ]


def folder_of(name: str) -> Path | None:
    """The folder of a run that lies in one: of the workspace, a blend or another checkout."""
    folder = Path() if name == WORKSPACE else Path(name)
    return folder if name == WORKSPACE or is_blend(folder) or (folder / METRICS).is_file() else None


def require_known(name: str) -> None:
    """Raise a UserError if a run of that name cannot be there; MLflow is not asked."""
    if folder_of(name) is not None or MLFLOW_RUN.fullmatch(name):
        return
    try:
        revisions.resolve(name)
    except UserError:
        if Path(name).parent == BLENDS:
            require_blend(Path(name))
        if Path(name).is_dir():
            raise UserError(
                f"{name} is a folder, no git revision and no DVC experiment: expected {METRICS} of "
                "a run or a blend in it"
            ) from None
        raise


def fetch(name: str) -> tuple[Result, pd.DataFrame | None]:
    """A run by name, and its battles with their texts where these are at hand.

    Args:
        name: `workspace`, an MLflow run's id (or runs:/ID), a DVC experiment, a git revision, or
            the folder of a blend or a run.

    Raises:
        UserError: there is none of that name, or its files are not to be had.
    """
    folder = folder_of(name)
    if folder is not None:
        return read(folder, name), battles_in(folder)
    with tempfile.TemporaryDirectory() as temporary:
        texts = bring(name, Path(temporary))
        return read(Path(temporary), name), texts


def bring(name: str, folder: Path) -> pd.DataFrame | None:
    """Copy the RESULTS of a run in git, DVC or MLflow below a folder; what `fetch` does first.

    Returns:
        Its battles, where their texts are at hand.
    """
    if run := MLFLOW_RUN.fullmatch(name):
        from stages.runs import tracking  # mlflow takes seconds to import

        tracking.download(run[1], folder)
        return None
    commit = revisions.resolve(name)
    revisions.get(commit, RESULTS, folder)
    return _texts(commit, folder)


def battles_in(folder: Path) -> pd.DataFrame | None:
    """The battles that `prepare` has left in a folder, if it has."""
    path = folder / BATTLES
    return pd.read_parquet(path) if path.exists() else None


def _texts(commit: str, folder: Path) -> pd.DataFrame | None:
    """A commit's battles; numbers can be compared where their texts are not at hand."""
    with contextlib.suppress(UserError):
        revisions.get(commit, [BATTLES], folder)
        return pd.read_parquet(folder / BATTLES)
    return None


def read(folder: Path, name: str) -> Result:
    """Read a run's files below a folder laid out as the repository.

    Raises:
        UserError: a file is missing, or they are not all of one run.
    """
    try:
        return _read_blend(folder, name) if is_blend(folder) else _read(folder, name)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def _read(folder: Path, name: str) -> Result:
    fixed = (PARAMS, LOCK, METRICS, PROVENANCE, BASELINES_METRICS, OUT_OF_FOLD)
    require(folder, fixed, "has results")
    params = yaml.safe_load((folder / PARAMS).read_text(encoding="utf-8"))
    folds = params["split"]["folds"]
    of_folds = [of(fold) for of in (paths.summary, paths.curves) for fold in folds]
    require(folder, of_folds, "has results")
    lock = read_lock(folder)
    check_params(folder, lock)
    summaries = [read_json(folder / paths.summary(fold)) for fold in folds]
    _check_evaluated(summaries, read_json(folder / PROVENANCE))
    return Result(
        name=name,
        params=params,
        metrics=read_json(folder / METRICS),
        baselines=read_json(folder / BASELINES_METRICS),
        folds=summaries,
        curves=[pd.read_csv(folder / paths.curves(fold)) for fold in folds],
        rows=_with_votes(pd.read_parquet(folder / OUT_OF_FOLD)),
        raw_votes=hashes(lock["prepare"], "deps")[params["data"]["raw"]],
    )


def _read_blend(folder: Path, name: str) -> Result:
    require(folder, (METRICS, OUT_OF_FOLD), "has results")
    runs = read_json(folder / BLEND)["runs"]
    members = [_read(folder / run["folder"], run["name"]) for run in runs]
    return Result(
        name=name,
        params=members[0].params,
        metrics=read_json(folder / METRICS),
        baselines=members[0].baselines,
        folds=[summary for member in members for summary in member.folds],
        curves=[],
        rows=pd.read_parquet(folder / OUT_OF_FOLD),
        raw_votes=members[0].raw_votes,
        members=members,
    )


def _with_votes(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the votes' targets and weights, which older runs do not write."""
    if TARGETS[0] in rows:
        return rows
    one_hot = {name: (rows.label == place).astype(float) for place, name in enumerate(TARGETS)}
    return rows.assign(**one_hot, weight=1.0)


def _check_evaluated(summaries: list[dict], evaluated: list[dict]) -> None:
    """Whether the metrics are of these trainings."""
    anew = [each["fold"] for each in summaries if each not in evaluated]
    if anew:
        raise UserError(
            f"expected the metrics of its trainings, found fold {', '.join(map(str, anew))} "
            "trained anew since `evaluate` ran: run `dvc repro`"
        )
