"""MLflow: where runs are recorded, and how. The only module that imports mlflow."""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # no word on each table of a new database

import pandas as pd
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags

from stages.root import root, state

EXPERIMENT = "preference-backbones"
DEFAULT = "sqlite:///mlflow.db"
SQLITE = "sqlite:///"

# Whether a server is there shows within seconds; MLflow's own patience, of minutes, is for one that
# is there and has a fault.
BRIEF = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


class Unrecorded(Exception):
    """The tracking store is away, or did not take the run."""


@dataclass(frozen=True)
class Run:
    """A run as it is to be recorded.

    Attributes:
        fingerprint: the same for the same result, whoever publishes it and however often.
        curves: a column `step`, each other one a metric; blank where not measured at that step.
        files: a file or folder, and the folder of the run's artifacts that it goes to.
        texts: a name among the artifacts, and its content.
        votes: path and MD5 of the raw votes, as in dvc.lock; their texts are not recorded.
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
    children: Sequence["Run"] = ()


def uri() -> str:
    """The user's MLFLOW_TRACKING_URI, or a SQLite file in the repository's root.

    The path of a SQLite file is relative to that root also in DVC's throwaway clones of it.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT
    if given.startswith(SQLITE):
        return f"{SQLITE}{root() / given.removeprefix(SQLITE)}"
    return given


def where() -> str:
    """How to look at what is recorded."""
    if not uri().startswith(SQLITE):
        return f"look at {_without_password(uri())}"
    path = Path(uri().removeprefix(SQLITE))
    shown = path.relative_to(root()) if path.is_relative_to(root()) else path
    return f"look with `mlflow ui --backend-store-uri {SQLITE}{shown}` in {root()}"


def record(run: Run) -> bool:
    """Record a run and its children, unless that result is recorded already.

    Returns:
        Whether it is new. A recording that was broken off is deleted and done anew.

    Raises:
        Unrecorded: the store is away or refuses; what is recorded by then counts as broken off.
    """
    with _store() as (client, experiment):
        if _is_recorded(client, experiment, run.fingerprint):
            return False
        _record(client, experiment, run)
        return True


@contextmanager
def _store() -> Iterator[tuple[MlflowClient, str]]:
    """A client and the experiment's id, for one publisher of this repository at a time.

    Two processes that create the SQLite database at once break it for good; and nobody takes
    another's run, half recorded, for one that was broken off.
    """
    lock = state() / "locks" / "mlflow.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        try:
            with _brief_requests():
                client = MlflowClient(uri())
                experiment = _experiment(client)
            yield client, experiment
        except Exception as error:  # whatever the store's and its artifacts' client libraries raise
            reason = str(error).strip().splitlines() or [type(error).__name__]
            message = _without_password(f"{uri()} did not take the run: {reason[0]}")
            raise Unrecorded(message) from error


@contextmanager
def _brief_requests() -> Iterator[None]:
    """Patience of seconds, unless the user has set another."""
    ours = {name: value for name, value in BRIEF.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _experiment(client: MlflowClient) -> str:
    """The experiment's id; made on first use."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    # MLflow's default would be relative to the working folder, which may be a throwaway clone
    place = (root() / "mlartifacts").as_uri() if uri().startswith(SQLITE) else None
    try:
        return client.create_experiment(name, artifact_location=place)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return client.get_experiment_by_name(name).experiment_id  # another machine was first


def _is_recorded(client: MlflowClient, experiment: str, fingerprint: str) -> bool:
    """Whether a whole recording exists; broken ones are deleted."""
    runs = client.search_runs([experiment], f"tags.fingerprint = '{fingerprint}'")
    for run in runs:
        if run.info.status != "FINISHED":
            _delete(client, experiment, run.info.run_id)
    return any(run.info.status == "FINISHED" for run in runs)


def _delete(client: MlflowClient, experiment: str, parent: str) -> None:
    for child in client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'"):
        client.delete_run(child.info.run_id)
    client.delete_run(parent)


def _record(client: MlflowClient, experiment: str, run: Run, parent: str | None = None) -> None:
    nested = {"mlflow.parentRunId": parent} if parent else {}
    tags = resolve_tags({"fingerprint": run.fingerprint, **run.tags, **nested})
    new = client.create_run(experiment, tags=tags, run_name=run.name).info.run_id
    for child in run.children:
        _record(client, experiment, child, new)
    for batch in _batches([Param(name, str(value)) for name, value in run.params.items()], 100):
        client.log_batch(new, params=batch)
    for batch in _batches(_metrics(run), 1000):
        client.log_batch(new, metrics=batch)
    client.log_inputs(new, datasets=[_dataset(*run.votes)])
    for path, folder in run.files.items():
        log = client.log_artifacts if path.is_dir() else client.log_artifact
        log(new, str(path), folder)
    for name, text in run.texts.items():
        client.log_text(new, text, name)
    client.set_terminated(new)


def _metrics(run: Run) -> list[Metric]:
    """Final values at step 0, and the curves."""
    now = int(time.time() * 1000)
    final = [Metric(name, value, now, 0) for name, value in run.metrics.items()]
    measured = run.curves.melt("step", var_name="name").dropna()
    rows = measured[["name", "value", "step"]].itertuples(index=False)
    return final + [Metric(name, float(value), now, int(step)) for name, value, step in rows]


def _dataset(path: str, md5: str) -> DatasetInput:
    source = json.dumps({"uri": path})
    votes = Dataset(Path(path).name, md5, source_type="local", source=source)
    return DatasetInput(votes, [InputTag("mlflow.data.context", "training")])


def _batches(entities: list, size: int) -> list[list]:
    """Parts that the server takes in one request each."""
    return [entities[start : start + size] for start in range(0, len(entities), size)]


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//***@", text)
