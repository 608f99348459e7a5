"""Python imports this as it starts, where this folder is in PYTHONPATH: it keeps the network away.

Only this machine can be reached. What else is asked for is written to the file NETWORK_LOG.
"""

import os
import sys
from pathlib import Path

HERE = ("localhost", "127.0.0.1", "::1", None)


def keep_away(event: str, arguments: tuple) -> None:
    """Refuse to look up or reach another machine."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in HERE:
        with Path(os.environ["NETWORK_LOG"]).open("a", encoding="utf-8") as log:
            log.write(f"{sys.argv} asked for {host}\n")
        raise OSError(f"{host}: the network is kept away")


sys.addaudithook(keep_away)
