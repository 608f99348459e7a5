"""A training's progress, sent to MLflow: a run of its own, with which `publish` goes on later."""

from collections.abc import Mapping, Sequence

from mlflow import MlflowClient
from mlflow.entities import Metric

from stages.runs.entries import PARENT, enter, fill, log_metrics, runs_of
from stages.runs.recording import CURVES, chosen, name_of, of_code
from stages.runs.store import brief_requests, opened
from stages.training.progress import Progress


class Sending:
    """Sends what is new in a training's progress.

    Attributes:
        run: the id of its run, as long as all goes well; without one, the next call finds it.
        sent: how many of the points it has.
    """

    def __init__(self) -> None:
        self.run: str | None = None
        self.sent = 0

    def send(self, progress: Progress) -> None:
        """Send what the run lacks; a fold that is recorded in full already gets no run.

        Raises:
            Unrecorded: the store is away or refuses.
        """
        run, self.run = self.run, None
        with brief_requests(), opened() as (client, experiment):
            if run:
                log_metrics(client, run, _metrics(progress.points[self.sent :]))
            else:
                run = _entered(client, experiment, progress)
        self.run, self.sent = run, len(progress.points)

    def end(self, status: str) -> None:
        """Let MLflow show how the training has ended.

        Raises:
            Unrecorded: the store is away or refuses.
        """
        if self.run:
            with brief_requests(), opened() as (client, _):
                client.set_terminated(self.run, status)


def _entered(client: MlflowClient, experiment: str, progress: Progress) -> str | None:
    """The id of the fold's run, which has all points from then on; None if it is recorded."""
    facts = progress.facts
    runs = runs_of(client, experiment, facts["fingerprint"])
    if runs and all(PARENT in run.data.tags for run in runs):
        return None
    name = f"{name_of(facts['model'], facts['scale'])}, fold {facts['fold']}"
    run = enter(client, experiment, name, facts["fingerprint"], _tags(facts))
    params = chosen(facts["model"], facts["scale"], facts["params"]) | {"fold": facts["fold"]}
    fill(client, run, params, _metrics(progress.points))
    return run.info.run_id


def _tags(facts: Mapping) -> dict[str, str]:
    checkpoint = {name: facts["checkpoint"][name] for name in ("checkpoint", "revision")}
    return {**checkpoint, "dvc.stage": f"train@{facts['fold']}", **of_code()}


def _metrics(points: Sequence[Mapping[str, float]]) -> list[Metric]:
    return [
        Metric(name, point[name], int(point["time"] * 1000), int(point["step"]))
        for point in points
        for name in CURVES[1:]
        if name in point
    ]
