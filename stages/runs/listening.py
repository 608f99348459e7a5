"""Serving an application over HTTP from a port that is free."""

import contextlib
import socket

import uvicorn
from fastapi import FastAPI

from stages.config.errors import UserError


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: the address; 127.0.0.1 is reached from this machine alone.
        port: 0 takes any that is free.

    Raises:
        UserError: the port is taken, or the address is not this machine's.
    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise UserError(
            f"{host}, port {port} is not free ({error}): choose another with --port"
        ) from None


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Print the address, and serve until interrupted."""
    host, port = listening.getsockname()[:2]
    print(f"http://{host}:{port} (Ctrl+C ends it)", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with contextlib.suppress(KeyboardInterrupt):  # which it raises again once it has ended
        server.run(sockets=[listening])
