"""What a served application answers where something goes wrong that no request can mend."""

import threading
from collections.abc import Iterator

import pytest
import requests
import uvicorn
from fastapi import FastAPI

from stages.runs.listening import listen, serve


@pytest.fixture
def address(monkeypatch) -> Iterator[str]:
    """Of an application that always fails, on a server that can be stopped."""
    app, servers = FastAPI(), []

    @app.get("/{words}")
    def fail(words: str) -> None:
        raise RuntimeError(words)

    class Server(uvicorn.Server):
        def __init__(self, config):
            super().__init__(config)
            servers.append(self)

    monkeypatch.setattr(uvicorn, "Server", Server)
    listening = listen("127.0.0.1", 0)
    thread = threading.Thread(target=serve, args=(app, listening))
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    servers[0].should_exit = True
    thread.join(30)


def test_without_memory_a_request_is_told_to_come_again(address):
    answered = requests.get(f"{address}/CUDA error: out of memory", timeout=60)
    assert answered.status_code == 503
    assert "end what else uses the device" in answered.json()["detail"]


def test_any_other_fault_stays_one(address):
    assert requests.get(f"{address}/shapes do not fit", timeout=60).status_code == 500
