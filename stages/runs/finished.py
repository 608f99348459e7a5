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
    LOCK,
    METRICS,
    OUT_OF_FOLD,
    PARAMS,
    PROVENANCE,
    SUMMARIES,
)
from stages.runs import revisions
from stages.runs.files import read_json, require
from stages.runs.lock import check_params, hashes, read_lock
from stages.scoring.bootstrap import ENDS
from stages.scoring.predictions import columns_of
from stages.votes.labels import TARGETS, Votes, votes_of

WORKSPACE = "workspace"
MLFLOW_RUN = re.compile(r"(?:runs:/)?([0-9a-f]{32})")


@dataclass(frozen=True)
class Result:
    """One pipeline run.

    Attributes:
        name: as the user asked for it: a branch, an experiment, an MLflow run, or `workspace`.
        params: all of that run's params.yaml.
        metrics: its metrics/metrics.json.
        baselines: its metrics/baselines.json, a row a baseline with interval.
        folds: its metrics/folds/fold-K.json, in order.
        curves: their curves: step, epoch, training_loss, validation_loss, lr, grad_norm.
        rows: its out-of-fold table, as stages.scoring.out_of_fold.out_of_fold_table makes it.
        raw_votes: MD5 of their file.
    """

    name: str
    params: dict
    metrics: dict
    baselines: dict
    folds: list[dict]
    curves: list[pd.DataFrame]
    rows: pd.DataFrame
    raw_votes: str

    @property
    def checkpoint(self) -> str:
        """The checkpoint's name, which says more than the family's."""
        return self.folds[0]["checkpoint"]["checkpoint"]

    @property
    def reference(self) -> str:
        """The baseline that it has to beat to have learned."""
        return self.metrics.get("reference", "prior")  # which older runs do not name

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
    def given(self) -> list[str]:
        """How length and format were given to the backbone, if they were."""
        ways = {
            "counts in the prompt": self.params["prompt"].get("counts", False),
            "offset": self.params["train"].get("offset", False),
        }
        return [way for way, taken in ways.items() if taken]

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


def require_known(name: str) -> None:
    """Raise a UserError if a run of that name cannot be there; MLflow is not asked."""
    if name != WORKSPACE and not MLFLOW_RUN.fullmatch(name):
        revisions.resolve(name)


def fetch(name: str) -> tuple[Result, pd.DataFrame | None]:
    """A run by name, and its battles with their texts where these are at hand.

    Args:
        name: `workspace`, an MLflow run's id (or runs:/ID), a DVC experiment or a git revision.

    Raises:
        UserError: there is none of that name, or its files are not to be had.
    """
    if name == WORKSPACE:
        return read(Path(), name), pd.read_parquet(BATTLES) if BATTLES.exists() else None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if run := MLFLOW_RUN.fullmatch(name):
            from stages.runs import tracking  # mlflow takes seconds to import

            tracking.download(run[1], folder)
            return read(folder, name), None
        commit = revisions.resolve(name)
        kept = [PARAMS, LOCK, METRICS, PROVENANCE, BASELINES_METRICS, SUMMARIES, OUT_OF_FOLD]
        revisions.get(commit, kept, folder)
        return read(folder, name), _texts(commit, folder)


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
        return _read(folder, name)
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
