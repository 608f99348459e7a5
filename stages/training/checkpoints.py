"""What a training keeps on disk while it runs, so that it can go on where it was stopped."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from stages.config.errors import UserError
from stages.devices import processes

STATE = "trainer_state.json"  # what transformers writes last into a checkpoint
WRITER = re.compile("inline_container|PytorchStreamWriter")  # torch.save's, in its RuntimeErrors


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end, if any."""
    whole = filter(_whole, folder.glob("checkpoint-*"))
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def _whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return True


@contextmanager
def saving(step: int, folder: Path) -> Iterator[None]:
    """Write the checkpoint of a step into a folder, or leave nothing of it to fill the disk.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with writing(f"the checkpoint of step {step}", folder):
            yield
    except UserError:
        half = folder / f"checkpoint-{step}"
        if processes.rank() == 0 and not _whole(half):  # the others write little, and after it
            shutil.rmtree(half, ignore_errors=True)
        raise


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
        # The others say nothing but where in their own code it was.
        reason = f" ({error})" if isinstance(error, OSError) else ""
        free = shutil.disk_usage(folder).free / 2**20
        raise UserError(
            f"{what} could not be written to {folder.absolute()}, where {free:,.0f} MiB were free"
            f"{reason}: make room; the same command, given again, goes on from the last checkpoint "
            "that is whole, if there is one"
        ) from None
