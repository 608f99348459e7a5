"""Serving an application over HTTP from a port that is free."""

import contextlib
import socket

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from stages.config.errors import UserError, no_room, out_of_memory


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
    except (OSError, OverflowError) as error:  # the latter of a number that no port has
        raise UserError(
            f"{host}, port {port} is not free ({error}): choose another with --port"
        ) from None


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Print the address, and serve until interrupted.

    Where memory runs out, a request is answered with status 503 and words: a trainer of the policy
    may share the GPU.
    """
    app.add_exception_handler(RuntimeError, _unavailable)
    host, port = listening.getsockname()[:2]
    print(f"http://{host}:{port} (Ctrl+C ends it)", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with contextlib.suppress(KeyboardInterrupt):  # which it raises again once it has ended
        server.run(sockets=[listening])


async def _unavailable(_: Request, error: Exception) -> JSONResponse:
    if not out_of_memory(error):
        raise error
    return JSONResponse({"detail": no_room(error)}, 503)
