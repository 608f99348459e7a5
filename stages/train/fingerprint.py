"""What determines a run, as one hash: a checkpoint is taken up again only under the same one."""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path

from stages.params import Params

BESIDE = ["features.py", "labels.py", "offset.py", "prompts.py", "regression.py", "scores.py"]
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "tokenizers")


def fingerprint(record: dict, fold: int, params: Params, data: Iterable[Path]) -> str:
    """Hash the checkpoint, the fold, the resolved params, the data, the code and the libraries."""
    parts = {
        "checkpoint": record,
        "fold": fold,
        "params": resolved(params),
        "data": [_digest(path) for path in data],
        "code": [_digest(path) for path in _code()],
        "versions": versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def resolved(params: Params) -> dict:
    """The params that a fold's training depends on, with model and scale filled in."""
    return {
        "prompt": params.prompt.model_dump(),
        "train": params.train.model_dump(exclude={"log_steps", "save_steps"}),
        "budget": params.budget.model_dump(),
        "checkpoint": params.checkpoint.model_dump(),
    }


def versions() -> dict[str, str]:
    """The installed versions of the libraries that decide the numbers."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _code() -> list[Path]:
    package = Path(__file__).parent
    return sorted([*package.glob("*.py"), *(package.parent / name for name in BESIDE)])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
