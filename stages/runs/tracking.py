"""Recording a run in MLflow, its model with it, and bringing them back."""

import json
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mlflow import MlflowClient, artifacts
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from stages.config.errors import UserError
from stages.runs import served
from stages.runs.entries import PARENT, enter, fill, runs_of
from stages.runs.recording import BLENDED, Recording
from stages.runs.store import (
    Unrecorded,
    brief_requests,
    command,
    opened,
    read_only,
    uri,
    without_password,
)

MODEL = "model"


# A run


def record(recording: Recording) -> bool:
    """Record a run and its children, unless that result is recorded already.

    Returns:
        Whether it is new. A recording that was broken off is deleted and done anew.

    Raises:
        Unrecorded: the store is away or refuses; what is recorded by then counts as broken off.
    """
    with opened() as (client, experiment):
        if _is_recorded(client, experiment, recording.fingerprint):
            return False
        _log(client, experiment, recording)
        return True


def _is_recorded(client: MlflowClient, experiment: str, fingerprint: str) -> bool:
    """Whether a whole recording exists; broken ones are deleted."""
    runs = runs_of(client, experiment, fingerprint)
    for run in runs:
        if run.info.status != "FINISHED":
            _delete(client, experiment, run.info.run_id)
    return any(run.info.status == "FINISHED" for run in runs)


def _delete(client: MlflowClient, experiment: str, parent: str) -> None:
    for model in client.search_logged_models([experiment], f"source_run_id = '{parent}'"):
        client.delete_logged_model(model.model_id)
    for child in client.search_runs([experiment], f"tags.`{PARENT}` = '{parent}'"):
        client.delete_run(child.info.run_id)
    client.delete_run(parent)


def _log(
    client: MlflowClient, experiment: str, recording: Recording, parent: str | None = None
) -> None:
    tags = {**recording.tags, PARENT: parent} if parent else recording.tags
    entered = enter(client, experiment, recording.name, recording.fingerprint, tags)
    run = entered.info.run_id
    for child in recording.children:
        _log(client, experiment, child, run)
    fill(client, entered, recording.params, _metrics(recording))
    client.log_inputs(run, datasets=[_dataset(*recording.votes)])
    for path, folder in recording.files.items():
        log = client.log_artifacts if path.is_dir() else client.log_artifact
        log(run, str(path), folder)
    for name, text in recording.texts.items():
        client.log_text(run, text, name)
    if recording.model:
        _log_model(client, experiment, recording, run)
    client.set_terminated(run)


def _metrics(recording: Recording) -> list[Metric]:
    """Final values at step 0, and the curves."""
    now = int(time.time() * 1000)
    final = [Metric(name, value, now, 0) for name, value in recording.metrics.items()]
    measured = recording.curves.melt("step", var_name="name").dropna()
    rows = measured[["name", "value", "step"]].itertuples(index=False)
    return final + [Metric(name, float(value), now, int(step)) for name, value, step in rows]


def _dataset(path: str, md5: str) -> DatasetInput:
    source = json.dumps({"uri": path})
    votes = Dataset(Path(path).name, md5, source_type="local", source=source)
    return DatasetInput(votes, [InputTag("mlflow.data.context", "training")])


def download(run: str, folder: Path) -> None:
    """Bring the results of a recorded pipeline run, or blend, below a folder laid out as its own.

    Raises:
        UserError: there is no such run, or its artifacts cannot be had.
    """
    try:
        with read_only() as store:
            _download(MlflowClient(store), run, folder)
    except (MlflowException, OSError, sqlite3.Error) as error:
        raise UserError(
            f"run {run} cannot be had from {without_password(uri())}: {error}. Expected the id of "
            "a pipeline's parent run, as `python -m stages.publish` records it"
        ) from None


def _download(client: MlflowClient, run: str, folder: Path) -> None:
    with brief_requests():
        found = client.get_run(run)
    if found.data.tags.get("dvc.stage") == "blend":
        _copy_blend(client, run, folder)
        return
    experiment = found.info.experiment_id
    _copy(client, run, {"params.yaml": ".", "dvc.lock": ".", "metrics": "."}, folder)
    _copy(client, run, {"predictions/out_of_fold.parquet": "data/evaluated"}, folder)
    (folder / "folds/metrics").mkdir(parents=True)
    # A run that was deleted is still there, and so are its folds.
    of_run = f"tags.`{PARENT}` = '{run}'"
    for child in client.search_runs([experiment], of_run, run_view_type=ViewType.ALL):
        _copy(client, child.info.run_id, {"metrics": "."}, folder / "folds")
    (folder / "folds/metrics").rename(folder / "metrics/folds")


def _copy_blend(client: MlflowClient, run: str, folder: Path) -> None:
    blend = Path(client.download_artifacts(run, str(BLENDED), str(folder)))
    for path in blend.iterdir():
        path.rename(folder / path.name)


def _copy(client: MlflowClient, run: str, wanted: Mapping[str, str], folder: Path) -> None:
    """Download artifacts, each into a folder below `folder`."""
    for artifact, place in wanted.items():
        target = folder / place
        target.mkdir(parents=True, exist_ok=True)
        found = Path(client.download_artifacts(run, artifact, str(target)))
        if found.parent != target:
            found.rename(target / found.name)


# Its model


def register(fingerprint: str, name: str, alias: str) -> str:
    """Register a recorded run's model under a name, once, and let an alias point to it.

    Returns:
        The version.

    Raises:
        Unrecorded: the store is away or refuses, or has no model of that run.
    """
    with opened() as (client, experiment):
        model = _model_of(client, experiment, fingerprint)
        with suppress(MlflowException):  # there may be one of that name
            client.create_registered_model(name)
        version = _version(client, name, model)
        client.set_registered_model_alias(name, alias, version)
        return version


def _log_model(client: MlflowClient, experiment: str, recording: Recording, run: str) -> None:
    """Log a model into a run by client: mlflow.pyfunc.log_model would load it to try it."""
    logged = client.create_logged_model(experiment, MODEL, source_run_id=run)
    model = Model(
        artifact_path=logged.artifact_location,
        run_id=run,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
    )
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        served.save(recording.root, recording.model, model, Path(folder))
        client.log_model_artifacts(logged.model_id, folder)
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.log_outputs(run, [LoggedModelOutput(logged.model_id, step=0)])


def _model_of(client: MlflowClient, experiment: str, fingerprint: str) -> LoggedModel:
    runs = runs_of(client, experiment, fingerprint)
    # Several where one was deleted, recorded anew, and restored.
    finished = [run.info.run_id for run in runs if run.info.status == "FINISHED"]
    for run in finished:
        for model in client.search_logged_models([experiment], f"source_run_id = '{run}'"):
            return model
    delete = command(f"runs delete --run-id {finished[0]}")
    raise Unrecorded(
        f"run {finished[0]} has no model any more: delete it with {delete}, and give this command "
        "again, which records it anew"
    )


def _version(client: MlflowClient, name: str, model: LoggedModel) -> str:
    """The model's version under that name; made on first use."""
    source = f"models:/{model.model_id}"
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.source == source:
            return version.version
    run = model.source_run_id
    return client.create_model_version(name, source, run, model_id=model.model_id).version


def download_model(model: str, folder: Path) -> Path:
    """Bring a model's files; where they lie, laid out as the repository.

    Args:
        model: runs:/ID/model, models:/ID, models:/NAME@ALIAS, or the path of a model's folder.

    Raises:
        UserError: there is no such model of this project, or the store is away.
    """
    if ":/" not in model and not Path(model).is_dir():
        raise UserError(
            f"there is no folder {model}: expected one, or a model in MLflow as runs:/ID/model or "
            "models:/NAME@ALIAS"
        )
    try:
        with read_only() as store, brief_requests():
            uris = {"tracking_uri": store, "registry_uri": store}
            found = Path(artifacts.download_artifacts(model, dst_path=str(folder), **uris))
    except Exception as error:  # whatever the store's and its artifacts' client libraries raise
        message = f"{model} cannot be had from {uri()}: {error}"
        raise UserError(without_password(message)) from None
    files = found / "artifacts" / served.ARTIFACT
    if not files.is_dir():
        raise UserError(f"{model} is no model that `python -m stages.publish` has recorded")
    return files
