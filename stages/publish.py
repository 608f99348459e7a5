"""Stage `publish`: record the run in MLflow from DVC's outs, once, however often it is called.

One parent run a pipeline run, one child a fold. What is recorded is read from the outs, so a result
that DVC restored from its cache is found again under its fingerprint, and one whose tracking server
was away is recorded later by hand.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from stages.config import paths
from stages.config.errors import UserError, stage
from stages.config.params import Params, load
from stages.config.paths import LOCK, METRICS, OUT_OF_FOLD, PARAMS, PIPELINE, PLOTS
from stages.runs import tracking
from stages.runs.lock import check_params, hashes, read_lock
from stages.runs.outs import predicting

# What a repetition of the same run measures anew.
COSTS = {"train_seconds", "tokens_per_second", "peak_memory_gib"}
# Written by DVC, or recorded in full: a change in them is no change of code.
RECORDED = ("params.yaml", "dvc.lock", "metrics", "models")
CURVES = ["step", "training_loss", "validation_loss", "lr", "grad_norm"]


class Outs(NamedTuple):
    """What one fold's training left behind."""

    summary: Path
    curves: Path
    adapter: Path
    predictions: Path


def outs(fold: int) -> Outs:
    """The places of a fold's outs."""
    return Outs(
        paths.summary(fold), paths.curves(fold), paths.adapter(fold), paths.predictions(fold)
    )


# Reading


def collect(params: Params) -> tracking.Run:
    """The pipeline's run, with one child a fold, from the outs in the working folder.

    Raises:
        UserError: an out is missing, or params.yaml is not what the folds were trained with.
    """
    folds = params.split.folds
    _require([*(path for fold in folds for path in outs(fold)), METRICS, PLOTS, OUT_OF_FOLD, LOCK])
    _require(predicting(params))
    lock = read_lock(Path())
    check_params(Path(), lock)
    metrics = _read_json(METRICS)
    summaries = {fold: _read_json(outs(fold).summary) for fold in folds}
    votes = (params.data.raw, hashes(lock["prepare"], "deps")[params.data.raw])
    tags = _tags(summaries[folds[0]])
    children = [_child(fold, summaries[fold], metrics, params, votes, tags) for fold in folds]
    return tracking.Run(
        name=_name(params),
        fingerprint=fingerprint([child.fingerprint for child in children], metrics),
        tags={
            **tags,
            "dvc.stage": "publish",
            "params_digest": _digest(params.model_dump()),
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
        texts={"environment.txt": _packages()},
        model=predicting(params),
        children=children,
    )


def _child(
    fold: int,
    summary: dict,
    metrics: dict,
    params: Params,
    votes: tuple[str, str],
    tags: Mapping[str, str],
) -> tracking.Run:
    paths = outs(fold)
    return tracking.Run(
        name=f"fold {fold}",
        fingerprint=summary["fingerprint"],
        tags={**tags, "dvc.stage": f"train@{fold}"},
        params={**_params(params), "fold": fold},
        metrics=numbers({**summary, **metrics["folds"][f"fold_{fold}"]}, without={"fold"}),
        curves=pd.read_csv(paths.curves)[CURVES],
        files={
            paths.adapter: "adapter",
            paths.predictions: "predictions",
            paths.summary: "metrics",
            paths.curves: "metrics",
        },
        votes=votes,
    )


def _require(paths: list[Path]) -> None:
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UserError(
            f"{', '.join(missing)} not found: only a pipeline that has ended can be recorded. "
            "Run `dvc repro`, or `dvc checkout` if it has run already"
        )


def _read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


# What it is called and how it is found


def fingerprint(folds: list[str], metrics: dict) -> str:
    """Of a pipeline run: its folds' fingerprints in order, and its metrics but for what it cost."""
    return _digest([folds, {k: v for k, v in metrics.items() if k not in COSTS}])


def _digest(content: object) -> str:
    """SHA-256 of a value as canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _name(params: Params) -> str:
    what = os.environ.get("DVC_EXP_NAME") or _git("rev-parse", "--short", "HEAD")
    return f"{params.model} {params.scale} {what}".strip()


def _tags(summary: dict) -> dict[str, str]:
    """What a run and its folds have in common."""
    checkpoint = summary["checkpoint"]
    code = ["status", "--porcelain", "--untracked-files=no", "--", "."]
    tags = {
        "checkpoint": checkpoint["checkpoint"],
        "revision": checkpoint["revision"],
        "device": summary["device"],
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
    chosen = {"model": params.model, "scale": params.scale, **flat(params.resolved())}
    return {name: value for name, value in chosen.items() if value is not None}


def flat(tree: Mapping, prefix: str = "") -> dict[str, object]:
    """A nested mapping as one level, its keys joined by dots."""
    level: dict[str, object] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        level |= flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return level


def numbers(tree: Mapping, without: set[str] = frozenset()) -> dict[str, float]:
    """The numbers of a nested mapping, as one level."""
    return {
        name: float(value)
        for name, value in flat(tree).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in without
    }


def _packages() -> str:
    """What `pip freeze` says of packages from the index."""
    packages = {(d.name, d.version) for d in importlib.metadata.distributions()}
    return "".join(f"{name}=={version}\n" for name, version in sorted(packages))


def _later() -> str:
    """How to record a run that the store did not take."""
    name = os.environ.get("DVC_EXP_NAME")
    command = "python -m stages.publish"
    return f"dvc exp apply {name} && DVC_EXP_NAME={name} {command}" if name else command


def _register(run: tracking.Run, named: str) -> None:
    """Register the run's model as NAME@ALIAS says."""
    name, _, alias = named.partition("@")
    try:
        version = tracking.register(run.fingerprint, name, alias)
    except tracking.Unrecorded as error:
        raise UserError(str(error)) from None
    print(f"models:/{named} is version {version}, the model of this run")


def _named(text: str) -> str:
    if not re.fullmatch(r"[^@/:]+@[^@/:]+", text):
        raise argparse.ArgumentTypeError(f"expected NAME@ALIAS, found {text!r}")
    return text


@stage
def main() -> None:
    """Record the run; a store that is away is an error unless the option says otherwise."""
    parser = argparse.ArgumentParser(prog="python -m stages.publish", description=__doc__)
    parser.add_argument(
        "--if-reachable", action="store_true", help="only warn if the tracking store is away"
    )
    parser.add_argument(
        "--register",
        type=_named,
        metavar="NAME@ALIAS",
        help="register the run's model, and let the alias point to it",
    )
    options = parser.parse_args()
    run = collect(load())
    try:
        new = tracking.record(run)
        done = "recorded the run" if new else "has this run already"
        print(f"MLflow {done}, with {len(run.children)} folds: {tracking.where()}")
        if options.register:
            _register(run, options.register)
    except tracking.Unrecorded as error:
        message = f"{error}\nThe results are kept. Record them later with\n  {_later()}"
        if not options.if_reachable:
            raise UserError(message) from None
        print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
