"""What is recorded of a pipeline's run, and of each of its folds, as read from DVC's outs.

A result that DVC restored from its cache reads the same, and so has the same fingerprint.
"""

import hashlib
import importlib.metadata
import json
import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from stages.config import paths
from stages.config.params import Params
from stages.config.paths import LOCK, METRICS, OUT_OF_FOLD, PARAMS, PIPELINE, PLOTS
from stages.runs.files import model_files, read_json, require
from stages.runs.lock import check_params, hashes, read_lock

# What a repetition of the same run measures anew.
COSTS = {"train_seconds", "tokens_per_second", "peak_memory_gib"}
# Written by DVC, or recorded in full: a change in them is no change of code.
RECORDED = ("params.yaml", "dvc.lock", "metrics", "models")
BLENDED = Path("blend")  # the folder of a blend among its artifacts
OF_A_FOLD = (paths.summary, paths.curves, paths.adapter, paths.predictions)
CURVES = ["step", "training_loss", "validation_loss", "lr", "grad_norm"]


@dataclass(frozen=True)
class Recording:
    """A run as it is to be recorded.

    Attributes:
        fingerprint: the same for the same result, whoever publishes it and however often.
        curves: a column `step`, each other one a metric; blank where not measured at that step.
        files: a file or folder, and the folder of the run's artifacts that it goes to.
        texts: a name among the artifacts, and its content.
        votes: path and MD5 of the raw votes, as in dvc.lock; their texts are not recorded.
        model: the files of the model that MLflow can serve, relative to `root`.
        root: the folder of the run; of a pipeline's, the working folder.
        children: their own runs, nested in this one.
    """

    name: str
    fingerprint: str
    tags: Mapping[str, str]
    params: Mapping[str, object]
    metrics: Mapping[str, float]
    curves: pd.DataFrame
    files: Mapping[Path, str]
    votes: tuple[str, str]
    texts: Mapping[str, str] = field(default_factory=dict)
    model: Sequence[Path] = ()
    root: Path = Path()
    children: Sequence["Recording"] = ()


# Reading


def collect(params: Params) -> Recording:
    """The pipeline's run, with one child a fold, from the outs in the working folder.

    Raises:
        UserError: an out is missing, or params.yaml is not what the folds were trained with.
    """
    folds = params.split.folds
    whole = [METRICS, PLOTS, OUT_OF_FOLD, LOCK, *model_files(params)]
    require(Path(), [*(of(fold) for fold in folds for of in OF_A_FOLD), *whole], "can be recorded")
    lock = read_lock(Path())
    check_params(Path(), lock)
    metrics = read_json(METRICS)
    summaries = {fold: read_json(paths.summary(fold)) for fold in folds}
    votes = (params.data.raw, hashes(lock["prepare"], "deps")[params.data.raw])
    tags = _tags(summaries[folds[0]])
    children = [_child(fold, summaries[fold], metrics, params, votes, tags) for fold in folds]
    return Recording(
        name=name_of(params.model, params.scale),
        fingerprint=fingerprint([child.fingerprint for child in children], metrics),
        tags={
            **tags,
            "dvc.stage": "publish",
            "params_digest": digest(params.model_dump()),
            "learned": metrics["learned"],
        },
        params={**_params(params), "folds": len(folds)},
        metrics=numbers(metrics),
        curves=pd.read_csv(PLOTS / "training_loss.csv"),
        files={
            **dict.fromkeys([PARAMS, PIPELINE, LOCK], ""),
            **dict.fromkeys(sorted(METRICS.parent.glob("*.json")), "metrics"),
            PLOTS: "plots",
            OUT_OF_FOLD: "predictions",
        },
        votes=votes,
        texts={"environment.txt": packages()},
        model=model_files(params),
        children=children,
    )


def _child(
    fold: int,
    summary: dict,
    metrics: dict,
    params: Params,
    votes: tuple[str, str],
    tags: Mapping[str, str],
) -> Recording:
    return Recording(
        name=f"fold {fold}",
        fingerprint=summary["fingerprint"],
        tags={**tags, "dvc.stage": f"train@{fold}"},
        params={**_params(params), "fold": fold},
        metrics=numbers({**summary, **metrics["folds"][f"fold_{fold}"]}, without=["fold"]),
        curves=pd.read_csv(paths.curves(fold))[CURVES],
        files={
            paths.adapter(fold): "adapter",
            paths.predictions(fold): "predictions",
            paths.summary(fold): "metrics",
            paths.curves(fold): "metrics",
        },
        votes=votes,
    )


# What it is called and how it is found


def fingerprint(folds: list[str], metrics: dict) -> str:
    """Of a pipeline run: its folds' fingerprints in order, and its metrics but for what it cost."""
    return digest([folds, {k: v for k, v in metrics.items() if k not in COSTS}])


def digest(content: object) -> str:
    """SHA-256 of a value as canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def name_of(model: str, scale: str) -> str:
    """What a pipeline's run is called: its choices, and the experiment or commit."""
    what = os.environ.get("DVC_EXP_NAME") or _git("rev-parse", "--short", "HEAD")
    return f"{model} {scale} {what}".strip()


def _tags(summary: dict) -> dict[str, str]:
    """What a run and its folds have in common."""
    checkpoint = summary["checkpoint"]
    return {
        "checkpoint": checkpoint["checkpoint"],
        "revision": checkpoint["revision"],
        "device": summary["device"],
        **of_code(),
    }


def of_code() -> dict[str, str]:
    """The commit, and the experiment that DVC runs."""
    code = ["status", "--porcelain", "--untracked-files=no", "--", "."]
    tags = {
        "dvc.exp_name": os.environ.get("DVC_EXP_NAME"),
        "dvc.baseline_rev": os.environ.get("DVC_EXP_BASELINE_REV"),
        "mlflow.source.git.commit": _git("rev-parse", "HEAD"),
        # whether the code differs from that commit's
        "dirty": str(bool(_git(*code, *(f":!{path}" for path in RECORDED)))).lower(),
    }
    return {name: value for name, value in tags.items() if value}


def _git(*arguments: str) -> str:
    """What git prints; nothing outside of a repository."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return done.stdout.strip()


# Flat values


def _params(params: Params) -> dict[str, object]:
    return chosen(params.model, params.scale, params.resolved())


def chosen(model: str, scale: str, resolved: Mapping) -> dict[str, object]:
    """A run's params as one level, without those that are not set.

    Args:
        resolved: as Params.resolved gives them.
    """
    every = {"model": model, "scale": scale, **flat(resolved)}
    return {name: value for name, value in every.items() if value is not None}


def flat(tree: Mapping, prefix: str = "") -> dict[str, object]:
    """A nested mapping as one level, its keys joined by dots."""
    level: dict[str, object] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        level |= flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return level


def numbers(tree: Mapping, without: Collection[str] = ()) -> dict[str, float]:
    """The numbers of a nested mapping, as one level."""
    return {
        name: float(value)
        for name, value in flat(tree).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in without
    }


def packages() -> str:
    """What `pip freeze` says of packages from the index."""
    packages = {(d.name, d.version) for d in importlib.metadata.distributions()}
    return "".join(f"{name}=={version}\n" for name, version in sorted(packages))
