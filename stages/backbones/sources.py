"""Where a backbone's checkpoint comes from and how it gets here: hub, Python package or folder.

Whatever the source, training reads a local folder in transformers' layout, safetensors only. It is
kept under the state folder by the checkpoint's name and revision, and appears there whole or not
at all: it is made beside its place, under a lock, and renamed.
"""

import re
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from stages.backbones import hub, package
from stages.backbones.layout import check_layout, digest
from stages.config.errors import UserError
from stages.config.params import Checkpoint
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
    if checkpoint.hub:
        commit = hub.commit(checkpoint.hub, f"backbones.{family}.{size}.hub", state)
        return record | {"checkpoint": checkpoint.hub.id, "source": "hub", "revision": commit}
    if checkpoint.package:
        name = checkpoint.package.gguf.partition(".gguf")[0]
        sha256 = checkpoint.package.sha256
        return record | {"checkpoint": name, "source": "package", "revision": sha256}
    folder = _local(checkpoint)
    check_layout(folder)
    return record | {"checkpoint": folder.name, "source": "folder", "revision": digest(folder)}


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
    if checkpoint.folder:
        return _unchanged(_local(checkpoint), record["revision"])
    folder = state / "weights" / _slug(record)
    partial = folder.with_name(f"{folder.name}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            print(f"fetching {record['checkpoint']} into {folder}", flush=True)
            if checkpoint.hub:
                hub.download(record, state, partial, check)
            else:
                package.unpack(checkpoint.package, partial)
            check_layout(partial)
            partial.rename(folder)
    return _unchanged(folder, record["digest"]) if "digest" in record else folder


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


def _local(checkpoint: Checkpoint) -> Path:
    """A relative folder lies in the user's repository, also when DVC works in a clone of it."""
    return root() / Path(checkpoint.folder).expanduser()


def _unchanged(folder: Path, revision: str) -> Path:
    check_layout(folder)
    found = digest(folder)
    if found != revision:
        raise UserError(
            f"{folder} has changed since models/weights.json was written (digest {revision[:12]}, "
            f"found {found[:12]}): run `dvc repro --force --single-item weights`, then go on"
        )
    return folder
