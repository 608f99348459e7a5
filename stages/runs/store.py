"""MLflow's tracking store: where it is, and how it is opened."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from stages.config.root import root, state

EXPERIMENT = "preference-backbones"
DEFAULT = "sqlite:///mlflow.db"
SQLITE = "sqlite:///"

# Whether a server is there shows within seconds; MLflow's own patience, of minutes, is for one that
# is there and has a fault.
BRIEF = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


class Unrecorded(Exception):
    """The tracking store is away, or did not take the run."""


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
        return f"look at {without_password(uri())}"
    path = Path(uri().removeprefix(SQLITE))
    shown = path.relative_to(root()) if path.is_relative_to(root()) else path
    return f"look with `mlflow ui --backend-store-uri {SQLITE}{shown}` in {root()}"


@contextmanager
def opened() -> Iterator[tuple[MlflowClient, str]]:
    """A client and the experiment's id, for one publisher of this repository at a time.

    Two processes that create the SQLite database at once break it for good; and nobody takes
    another's run, half recorded, for one that was broken off.
    """
    lock = state() / "locks" / "mlflow.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        try:
            with brief_requests():
                client = MlflowClient(uri())
                experiment = _experiment(client)
            yield client, experiment
        except Exception as error:  # whatever the store's and its artifacts' client libraries raise
            reason = str(error).strip().splitlines() or [type(error).__name__]
            message = without_password(f"{uri()} did not take the run: {reason[0]}")
            raise Unrecorded(message) from error


@contextmanager
def brief_requests() -> Iterator[None]:
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
        return _experiment(client)  # another machine was first


def without_password(text: str) -> str:
    """A text without the password of a URI in it."""
    return re.sub(r"//[^/@\s]+@", "//***@", text)
