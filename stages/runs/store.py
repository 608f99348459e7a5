"""MLflow's tracking store: where it is, and how it is opened."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException

from stages.config.root import root, state
from stages.runs import moved

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
    another's run, half recorded, for one that was broken off. If the repository was moved or
    copied, the database is told so: nothing may be written where it was.

    Raises:
        Unrecorded: the store is away, cannot be written, or did not take what it was given.
    """
    lock = state() / "locks" / "mlflow.lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            _repair()
            with brief_requests():
                client = MlflowClient(uri())
                experiment = _experiment(client)
            yield client, experiment
    except Unrecorded:
        raise
    except Exception as error:  # whatever the store's and its artifacts' client libraries raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        message = without_password(f"{uri()} did not take the run: {reason[0]}")
        raise Unrecorded(message) from error


def _repair() -> None:
    for database, former in _moved():
        moved.repair(database, former, root())
        old = ", ".join(map(str, former))
        print(f"{database.name} named artifacts in {old}, and now names them in {root()}")


@contextmanager
def read_only() -> Iterator[str]:
    """The URI of a store to read from; nothing is written into the repository.

    If that was moved or copied, it is a copy of its database in which artifacts are found. The
    variable names it, too: MLflow looks up runs:/… and models:/… there, whatever store it is given.
    """
    with tempfile.TemporaryDirectory(prefix="mlflow-") as folder:
        copy = Path(folder) / "copy.db"
        for database, former in _moved():
            moved.repaired_copy(database, former, root(), copy)
        store = f"{SQLITE}{copy}" if copy.exists() else uri()
        with _variables({"MLFLOW_TRACKING_URI": store}):
            yield store


def _moved() -> list[tuple[Path, list[Path]]]:
    """The database, and where the repository was when it was written; nothing if it was here.

    A database outside of the repository is not of this repository alone.
    """
    database = Path(uri().removeprefix(SQLITE))
    if not uri().startswith(SQLITE) or not database.is_file():
        return []
    if not database.resolve().is_relative_to(root()):
        return []
    former = moved.former_roots(database, {EXPERIMENT, _name()}, root())
    return [(database, former)] if former else []


def brief_requests() -> AbstractContextManager[None]:
    """Patience of seconds, unless the user has set another."""
    return _variables({name: value for name, value in BRIEF.items() if name not in os.environ})


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def _experiment(client: MlflowClient) -> str:
    """The experiment's id; made on first use."""
    found = client.get_experiment_by_name(_name())
    if found and found.lifecycle_stage == LifecycleStage.DELETED:
        restore = command(f"experiments restore --experiment-id {found.experiment_id}")
        raise Unrecorded(
            f"the experiment {_name()} was deleted from {without_password(uri())}: restore it with "
            f"{restore}, or choose another name in MLFLOW_EXPERIMENT_NAME"
        )
    if found:
        return found.experiment_id
    # MLflow's default would be relative to the working folder, which may be a throwaway clone
    place = (root() / moved.ARTIFACTS).as_uri() if uri().startswith(SQLITE) else None
    try:
        return client.create_experiment(_name(), artifact_location=place)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return _experiment(client)  # another machine was first


def command(words: str) -> str:
    """A command of MLflow's own on this store, to be given in the repository's root."""
    given = "" if os.environ.get("MLFLOW_TRACKING_URI") else f"MLFLOW_TRACKING_URI={DEFAULT} "
    return f"`{given}mlflow {words}`"


def without_password(text: str) -> str:
    """A text without the password of a URI in it."""
    return re.sub(r"//[^/@\s]+@", "//***@", text)
