"""MLflow: where runs are recorded, and how. Only stages.runs.served imports mlflow beside it."""

import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # no word on each table of a new database
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import pandas as pd
from filelock import FileLock
from mlflow import MlflowClient, artifacts
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.tracking.context.registry import resolve_tags

from stages.config.errors import UserError
from stages.config.root import root, state
from stages.runs import served

EXPERIMENT = "preference-backbones"
DEFAULT = "sqlite:///mlflow.db"
SQLITE = "sqlite:///"
MODEL = "model"

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
        model: the files of the model that MLflow can serve, relative to the working folder.
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


def register(fingerprint: str, name: str, alias: str) -> str:
    """Register a recorded run's model under a name, once, and let an alias point to it.

    Returns:
        The version.

    Raises:
        Unrecorded: the store is away or refuses, or has no model of that run.
    """
    with _store() as (client, experiment):
        model = _model_of(client, experiment, fingerprint)
        with suppress(MlflowException):  # there may be one of that name
            client.create_registered_model(name)
        version = _version(client, name, model)
        client.set_registered_model_alias(name, alias, version)
        return version


def download_model(model: str, folder: Path) -> Path:
    """Bring a model's files; where they lie, laid out as the repository.

    Args:
        model: runs:/ID/model, models:/ID, models:/NAME@ALIAS, or the path of a model's folder.

    Raises:
        UserError: there is no such model of this project, or the store is away.
    """
    store = {"tracking_uri": uri(), "registry_uri": uri()}
    try:
        with _brief_requests():
            found = Path(artifacts.download_artifacts(model, dst_path=str(folder), **store))
    except Exception as error:  # whatever the store's and its artifacts' client libraries raise
        message = f"{model} cannot be had from {uri()}: {error}"
        raise UserError(_without_password(message)) from None
    outs = found / "artifacts" / served.OUTS
    if not outs.is_dir():
        raise UserError(f"{model} is no model that `python -m stages.publish` has recorded")
    return outs


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
    for model in client.search_logged_models([experiment], f"source_run_id = '{parent}'"):
        client.delete_logged_model(model.model_id)
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
    if run.model:
        _log_model(client, experiment, run.model, new)
    client.set_terminated(new)


def _log_model(client: MlflowClient, experiment: str, files: Sequence[Path], run: str) -> None:
    """Log a model into a run by client: mlflow.pyfunc.log_model would load it to try it."""
    logged = client.create_logged_model(experiment, MODEL, source_run_id=run)
    model = Model(
        artifact_path=logged.artifact_location,
        run_id=run,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
    )
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        served.save(files, model, Path(folder))
        client.log_model_artifacts(logged.model_id, folder)
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.log_outputs(run, [LoggedModelOutput(logged.model_id, step=0)])


def _model_of(client: MlflowClient, experiment: str, fingerprint: str) -> LoggedModel:
    runs = client.search_runs([experiment], f"tags.fingerprint = '{fingerprint}'")
    (run,) = (run.info.run_id for run in runs if run.info.status == "FINISHED")
    for model in client.search_logged_models([experiment], f"source_run_id = '{run}'"):
        return model
    raise Unrecorded(f"run {run} has no model: delete it there, and publish it again")


def _version(client: MlflowClient, name: str, model: LoggedModel) -> str:
    """The model's version under that name; made on first use."""
    source = f"models:/{model.model_id}"
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.source == source:
            return version.version
    run = model.source_run_id
    return client.create_model_version(name, source, run, model_id=model.model_id).version


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


def download(run: str, folder: Path) -> None:
    """Bring a recorded pipeline run's results below a folder laid out as the repository.

    Raises:
        UserError: there is no such run, or its artifacts cannot be had.
    """
    client = MlflowClient(uri())
    try:
        with _brief_requests():
            experiment = client.get_run(run).info.experiment_id
        _copy(client, run, {"params.yaml": ".", "dvc.lock": ".", "metrics": "."}, folder)
        _copy(client, run, {"predictions/out_of_fold.parquet": "data/evaluated"}, folder)
        children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run}'")
        for child in children:
            _copy(client, child.info.run_id, {"metrics": "."}, folder / "folds")
    except (MlflowException, OSError) as error:
        raise UserError(
            f"run {run} cannot be had from {_without_password(uri())}: {error}. Expected the id of "
            "a pipeline's parent run, as `python -m stages.publish` records it"
        ) from None
    (folder / "folds/metrics").rename(folder / "metrics/folds")


def _copy(client: MlflowClient, run: str, wanted: Mapping[str, str], folder: Path) -> None:
    """Download artifacts, each into a folder below `folder`."""
    for artifact, place in wanted.items():
        target = folder / place
        target.mkdir(parents=True, exist_ok=True)
        found = Path(client.download_artifacts(run, artifact, str(target)))
        if found.parent != target:
            found.rename(target / found.name)
