"""A checkpoint as a folder in transformers' layout: safetensors only, and no code."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

from stages.config.errors import UserError

# What a checkpoint consists of: neither code nor pickles, and nothing in subfolders.
SMALL = ("*.json", "*.model", "*.txt", "*.jinja")
FILES = (*SMALL, "model*.safetensors")
# Weights that are not read: pickles, and other programs' layouts.
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".safetensors")


def describe(folder: Path) -> dict[str, str]:
    """The architecture that a checkpoint's config.json names, or else its type; and its type."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture, *_ = config.get("architectures") or [config["model_type"]]
    return {"architecture": architecture, "model_type": config["model_type"]}


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
    check_files(str(folder), {path.name for path in folder.iterdir()}, folder)


def check_files(name: str, files: Collection[str], folder: Path) -> None:
    """The same of a checkpoint that is not here yet.

    Args:
        name: what it is called in messages.
        files: the names of all its files.
        folder: where its index is, if it has one.

    Raises:
        UserError: config, tokenizer or safetensors are missing.
    """
    if "config.json" not in files:
        raise UserError(f"{name} holds no config.json: expected transformers' layout")
    if not any(file.startswith("tokenizer") for file in files):
        raise UserError(
            f"{name} holds no tokenizer: take a checkpoint with one, or save one beside the model "
            "with its save_pretrained, in a folder"
        )
    missing = sorted(_weight_files(folder) - set(files))
    if missing:
        others = sorted(file for file in files if file.endswith(OTHER_WEIGHTS))
        raise UserError(
            f"{name} lacks {_some(missing)}, found {_some(others) or 'no weights'}: only whole "
            "safetensors are read (a *.bin is a pickle, which can run code); take a checkpoint "
            "that has them, or load the model with transformers and save it in a folder with "
            "save_pretrained"
        )


def _weight_files(folder: Path) -> set[str]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return {"model.safetensors"}
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{index} is no index of safetensors ({type(error).__name__}: {error}): expected a "
            "weight_map of names and files; download it again"
        ) from None


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
