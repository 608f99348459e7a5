"""Stage `publish`: record the run in MLflow from DVC's outs, once, however often it is called."""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient

from stages import tracking
from stages.errors import UserError, stage
from stages.params import Params, load
from stages.train.fingerprint import resolved

METRICS = Path("metrics/metrics.json")
COSTS = ("train_seconds", "tokens_per_second", "peak_memory_gib")


@dataclass(frozen=True)
class Fold:
    """What one fold left behind."""

    number: int
    summary: dict
    curves: pd.DataFrame
    adapter: Path
    predictions: Path


def publish(params: Params) -> str:
    """Record a pipeline run with one child a fold, unless that very run is recorded already.

    Returns:
        A sentence on what was done, and where to look.

    Raises:
        UserError: the pipeline has not ended yet.
        tracking.Unreachable: the tracking server is away.
    """
    metrics = _read_json(METRICS)
    folds = [_fold(number) for number in params.split.folds]
    fingerprint = tracking.digest(
        [[fold.summary["fingerprint"] for fold in folds], _without_costs(metrics)]
    )
    with tracking.reachable():
        client, experiment = tracking.connect()
        if tracking.find(client, experiment, fingerprint):
            return f"MLflow has this run already: {_where()}"
        tags = _tags(params, folds[0].summary, fingerprint, metrics)
        parent = tracking.start(client, experiment, _name(params), tags)
        for fold in folds:
            _record_fold(client, experiment, parent, fold, params, tags)
        _record_run(client, parent, params, metrics)
        client.set_terminated(parent)
    return f"MLflow has the run, with {len(folds)} folds: {_where()}"


def _record_fold(
    client: MlflowClient,
    experiment: str,
    parent: str,
    fold: Fold,
    params: Params,
    tags: Mapping[str, str],
) -> None:
    own = {
        "fingerprint": fold.summary["fingerprint"] + parent[:8],
        "dvc.stage": f"train@{fold.number}",
        "mlflow.parentRunId": parent,
    }
    run = tracking.start(client, experiment, f"fold {fold.number}", {**tags, **own})
    tracking.log(client, run, _flat(resolved(params)), _numbers(fold.summary), fold.curves)
    client.log_artifacts(run, str(fold.adapter), "adapter")
    client.log_artifact(run, str(fold.predictions), "predictions")
    client.set_terminated(run)


def _record_run(client: MlflowClient, run: str, params: Params, metrics: dict) -> None:
    chosen = {"model": params.model, "scale": params.scale, **_flat(resolved(params))}
    tracking.log(client, run, chosen, _numbers(metrics))
    for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
        if Path(name).exists():
            client.log_artifact(run, name)
    client.log_artifacts(run, "metrics", "metrics")
    packages = {d.name: d.version for d in importlib.metadata.distributions()}
    client.log_text(
        run, "".join(f"{n}=={v}\n" for n, v in sorted(packages.items())), "packages.txt"
    )
    raw = Path(params.data.raw)
    tracking.log_dataset(client, run, params.data.raw, tracking.digest_file(raw))


def _tags(params: Params, summary: dict, fingerprint: str, metrics: dict) -> dict[str, str]:
    checkpoint = summary["checkpoint"]
    return {
        "fingerprint": fingerprint,
        "dvc.stage": "publish",
        "dvc.exp_name": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.baseline_rev": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "params_digest": tracking.digest(params.model_dump()),
        "dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower(),
        "git_commit": _git("rev-parse", "HEAD"),
        "checkpoint": checkpoint["checkpoint"],
        "revision": checkpoint["revision"],
        "device": summary["device"],
        "learned": metrics["learned"],
    }


def _name(params: Params) -> str:
    what = os.environ.get("DVC_EXP_NAME") or _git("rev-parse", "--short", "HEAD")
    return f"{params.model} {params.scale} {what}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return done.stdout.strip()


def _where() -> str:
    uri = tracking.uri()
    if uri.startswith("sqlite:"):
        return f"look with `mlflow ui --backend-store-uri {uri}`"
    return f"look at {uri}"


def _fold(number: int) -> Fold:
    summary = Path(f"metrics/folds/fold-{number}.json")
    return Fold(
        number,
        _read_json(summary),
        pd.read_csv(summary.with_suffix(".csv")),
        Path(f"models/fold-{number}"),
        Path(f"data/predictions/fold-{number}.parquet"),
    )


def _read_json(path: Path) -> dict:
    if not path.exists():
        raise UserError(f"{path} not found: the pipeline has not ended here; run `dvc repro` first")
    return json.loads(path.read_text(encoding="utf-8"))


def _without_costs(metrics: dict) -> dict:
    return {name: value for name, value in metrics.items() if name not in COSTS}


def _flat(tree: Mapping, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _numbers(tree: Mapping) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in _flat(tree).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


@stage
def main() -> None:
    """Publish; an absent server is an error, unless `--if-reachable` says that it may be away."""
    parser = argparse.ArgumentParser(prog="python -m stages.publish", description=__doc__)
    parser.add_argument("--if-reachable", action="store_true", help="end well without a server")
    optional = parser.parse_args().if_reachable
    try:
        print(publish(load()))
    except tracking.Unreachable as error:
        message = f"{error}. The results are safe; record them later: python -m stages.publish"
        if not optional:
            raise UserError(message) from None
        print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
