"""What a training keeps on disk while it runs, so that it can go on where it was stopped."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from stages.errors import UserError

STATE = "trainer_state.json"  # what transformers writes last into a checkpoint
WRITER = re.compile("inline_container|PytorchStreamWriter")  # torch.save's, in its RuntimeErrors


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end, if any."""
    whole = [state.parent for state in folder.glob(f"checkpoint-*/{STATE}") if _whole(state)]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def _whole(state: Path) -> bool:
    try:
        json.loads(state.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Write something into a folder.

    Raises:
        UserError: it cannot be written, as on a full disk.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not WRITER.search(str(error)):
            raise
        free = shutil.disk_usage(folder).free / 2**20
        raise UserError(
            f"{what} could not be written to {folder.absolute()}, where {free:,.0f} MiB are free: "
            f"{error}; make room and run the same command again, which goes on from the last "
            "checkpoint that is whole, if there is one"
        ) from None
