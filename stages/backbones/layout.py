"""A checkpoint as a folder in transformers' layout: safetensors only, and no code."""

import hashlib
import json
from pathlib import Path

from stages.config.errors import UserError

# What a checkpoint consists of: neither code nor pickles, and nothing in subfolders.
FILES = ("*.json", "model*.safetensors", "*.model", "*.txt", "*.jinja")


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
