"""A real tracking server of MLflow, over HTTP."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.support import forked
from tests.support.stores import put_store


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """Serves runs and artifacts that lie in a folder; may be stopped and started again."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.port, self.uri = home, port, f"http://127.0.0.1:{port}"
        home.mkdir()
        put_store(home)

    def start(self) -> None:
        store = ["--backend-store-uri", f"sqlite:///{self.home}/mlflow.db"]
        store += ["--artifacts-destination", f"{self.home}/files"]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.process = subprocess.Popen(
            [forked.commands() / "mlflow", "server", *store, *address],
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            cwd=self.home,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def stop(self) -> None:
        os.killpg(self.process.pid, 15)
        self.process.wait(20)

    @contextmanager
    def serving(self) -> Iterator[Self]:
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def _wait(self) -> None:
        for _ in range(1800):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError(self.uri)
