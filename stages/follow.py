"""Send a training's losses to MLflow and DVCLive while it runs: `train` starts this beside itself.

Standard input must stay open as long as the training goes on, and may then say how it has ended:
FINISHED, FAILED or KILLED.
"""

import argparse
import signal
import sys
from pathlib import Path

from stages.live.ending import has_ended


def main() -> None:
    """Follow the training; one that is short is left to `publish`."""
    parser = argparse.ArgumentParser(prog="python -m stages.follow", description=__doc__)
    parser.add_argument("file", type=Path, help="in which the training tells where it stands")
    parser.add_argument("--every", type=float, required=True, metavar="SECONDS")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # are for the training, whose end ends this, too
        signal.signal(number, signal.SIG_IGN)
    if has_ended(sys.stdin, options.every):
        return
    from stages.live.following import follow  # MLflow and DVC take seconds to import

    follow(options.file, sys.stdin, options.every)


if __name__ == "__main__":
    main()
