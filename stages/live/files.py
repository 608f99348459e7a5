"""A training's losses in DVCLive's files, from which VS Code and Studio draw live plots."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dvclive import Live

from stages.training.progress import Progress

FOLDER = Path("dvclive")  # dvc.yaml's plots name it
LOSSES = ("training_loss", "validation_loss")


class Files:
    """Writes a training's losses into DVCLive's files of its fold.

    They are begun anew by each process that follows a training. A killed training that goes on has
    told all its losses, so its files are whole again, and no other training's losses are in them.

    Attributes:
        live: DVCLive's logger, from the first loss on.
        written: how many of the points are in the files.
    """

    def __init__(self) -> None:
        self.live: Live | None = None
        self.written = 0

    def send(self, progress: Progress) -> None:
        """Write what is new; where that fails, say so, and try again at the next call."""
        with _or_said():
            self.live = self.live or _begun(progress)
            new = progress.points[self.written :]
            for point in new:
                self.live.step = int(point["step"])
                for name in LOSSES:
                    if name in point:
                        self.live.log_metric(name, point[name])
            if new:
                self.live.next_step()
            self.written += len(new)

    def end(self) -> None:
        """Tell Studio, where it is set up, that the training has ended."""
        if self.live:
            with _or_said():
                self.live.end()


@contextmanager
def _or_said() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        print(f"warning: DVCLive's files cannot be written: {error}", file=sys.stderr)


def _begun(progress: Progress) -> Live:
    """A logger that leaves git, the experiment and dvc.yaml as they are."""
    facts = progress.facts
    folder = FOLDER / f"fold-{facts['fold']}"
    live = Live(str(folder), save_dvc_exp=False, dvcyaml=None)
    live.log_params({name: facts[name] for name in ("model", "scale", "fold", "fingerprint")})
    return live
