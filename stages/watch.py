"""Watch the folds that are in training: python -m stages.watch, or `make watch`.

Each line has a fold's step, its latest losses beside the log loss of the class prior, tokens a
second, the time left for its training steps, and the most memory it has used so far.
"""

import argparse
import signal

from rich.console import Console
from rich.live import Live

from stages.config.root import state
from stages.live.table import view


def main() -> None:
    """Show the table each second until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m stages.watch", description=__doc__)
    parser.add_argument("--once", action="store_true", help="show the table once, and end")
    once, folder, console = parser.parse_args().once, state() / "checkpoints", Console()
    if once:
        console.print(view(folder))
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C comes between two tables
    with Live(console=console, get_renderable=lambda: view(folder), refresh_per_second=1):
        signal.sigwait({signal.SIGINT})


if __name__ == "__main__":
    main()
