"""A run in MLflow: found or created, and filled without writing anything twice.

A fold's run is created while the fold trains, by stages.live.sending, or else when the pipeline's
run is recorded, by stages.runs.tracking, which goes on with it and nests it.
"""

from collections.abc import Iterable, Mapping

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking.context.registry import resolve_tags

PARENT = "mlflow.parentRunId"


def runs_of(client: MlflowClient, experiment: str, fingerprint: str) -> list[Run]:
    """The runs of a fingerprint; of a fold, there may be one in each of several pipeline runs."""
    return list(client.search_runs([experiment], f"tags.fingerprint = '{fingerprint}'"))


def enter(
    client: MlflowClient, experiment: str, name: str, fingerprint: str, tags: Mapping[str, str]
) -> Run:
    """Go on with the run of that fingerprint that is in no other yet; create it if there is none.

    Returns:
        The run as it was found.
    """
    tags = dict(resolve_tags({"fingerprint": fingerprint, **tags}))
    for run in runs_of(client, experiment, fingerprint):
        if PARENT not in run.data.tags:
            client.update_run(run.info.run_id, "RUNNING", name)
            client.log_batch(run.info.run_id, tags=[RunTag(*tag) for tag in tags.items()])
            return run
    return client.create_run(experiment, tags=tags, run_name=name)


def fill(
    client: MlflowClient, run: Run, params: Mapping[str, object], metrics: Iterable[Metric]
) -> None:
    """Log params and metrics, but for those that the run had when it was entered."""
    run_id = run.info.run_id
    new = [Param(name, str(value)) for name, value in params.items() if name not in run.data.params]
    for batch in _batches(new, 100):
        client.log_batch(run_id, params=batch)
    known = {
        (point.key, point.step)
        for name in run.data.metrics
        for point in client.get_metric_history(run_id, name)
    }
    log_metrics(client, run_id, [each for each in metrics if (each.key, each.step) not in known])


def log_metrics(client: MlflowClient, run_id: str, metrics: list[Metric]) -> None:
    """Log metrics, however many."""
    for batch in _batches(metrics, 1000):
        client.log_batch(run_id, metrics=batch)


def _batches(entities: list, size: int) -> list[list]:
    """Parts that the server takes in one request each."""
    return [entities[start : start + size] for start in range(0, len(entities), size)]
