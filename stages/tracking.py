"""MLflow: where runs are recorded, and how. The only module that knows MLflow."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# A server that is away should cost seconds: MLflow's own defaults retry for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")

import mlflow
import pandas as pd
import requests
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from stages.root import root, state

EXPERIMENT = "preference-backbones"
NOW = 0  # a metric's time stamp: the same run published twice is the same


class Unreachable(Exception):
    """The tracking server did not answer, or refused."""


@contextmanager
def reachable() -> Iterator[None]:
    """Turn every way in which a tracking server fails into Unreachable."""
    try:
        yield
    except (MlflowException, requests.RequestException, OSError) as error:
        raise Unreachable(f"{uri()} did not take the run: {str(error).splitlines()[0]}") from error


def uri() -> str:
    """The user's MLFLOW_TRACKING_URI, or a SQLite store under the repository's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root() / 'mlflow.db'}"


def connect() -> tuple[MlflowClient, str]:
    """A client, and the experiment's id; both are made on first use.

    Creating the database from several processes at once breaks it for good, hence the lock.
    """
    mlflow.set_tracking_uri(uri())
    lock = state() / "locks" / "mlflow.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        client = MlflowClient(uri())
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = client.get_experiment_by_name(name)
        if found:
            return client, found.experiment_id
        local = uri().startswith("sqlite:")
        place = (root() / "mlartifacts").as_uri() if local else None
        return client, client.create_experiment(name, artifact_location=place)


def find(client: MlflowClient, experiment: str, fingerprint: str) -> str | None:
    """The id of the finished run with that fingerprint; unfinished ones of it are deleted."""
    runs = client.search_runs([experiment], f"tags.fingerprint = '{fingerprint}'")
    for run in runs:
        if run.info.status != "FINISHED":
            client.delete_run(run.info.run_id)
    return next((r.info.run_id for r in runs if r.info.status == "FINISHED"), None)


def start(client: MlflowClient, experiment: str, name: str, tags: dict[str, str]) -> str:
    """Begin a run."""
    return client.create_run(experiment, tags=tags, run_name=name).info.run_id


def log(
    client: MlflowClient,
    run: str,
    params: dict[str, object],
    metrics: dict[str, float],
    curves: pd.DataFrame | None = None,
) -> None:
    """Log params, metrics and curves (a column `step`, the others metrics) in few requests."""
    for part in _chunks([Param(k, str(v)[:6000]) for k, v in params.items()], 100):
        client.log_batch(run, params=part)
    values = [Metric(name, value, NOW, 0) for name, value in metrics.items()]
    for name in [] if curves is None else curves.columns.drop("step"):
        measured = curves[["step", name]].dropna()
        values += [
            Metric(name, float(value), NOW, int(step))
            for step, value in measured.itertuples(index=False)
        ]
    for part in _chunks(values, 1000):
        client.log_batch(run, metrics=part)


def log_dataset(client: MlflowClient, run: str, source: str, digest: str) -> None:
    """Name the raw votes and their digest, not their texts."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = Dataset(
        name=Path(source).name,
        digest=digest[:36],
        source_type="local",
        source=json.dumps({"uri": source}),
    )
    tag = InputTag("mlflow.data.context", "training")
    client.log_inputs(run, datasets=[DatasetInput(data, [tag])])


def _chunks(items: list, size: int) -> list[list]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def tag(client: MlflowClient, run: str, tags: dict[str, str]) -> None:
    """Set tags on a run."""
    client.log_batch(run, tags=[RunTag(key, value) for key, value in tags.items()])


def digest(content: object) -> str:
    """SHA-256 of a value as canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
