"""MLflow's database without runs, made once: making one takes seconds."""

import functools
import tempfile
from pathlib import Path

from mlflow import MlflowClient


def put_store(folder: Path) -> None:
    """Put a database where a run in that folder would make one."""
    (folder / "mlflow.db").write_bytes(_empty())


@functools.cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
        return (Path(folder) / "mlflow.db").read_bytes()
