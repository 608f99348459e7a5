"""What determines a run, as one hash: a checkpoint is taken up again only under the same one."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import yaml

from stages.config.params import Params
from stages.config.paths import PIPELINE
from stages.config.versions import versions


def fingerprint(record: dict, fold: int, params: Params, data: Iterable[Path]) -> str:
    """Hash the checkpoint, the fold, the resolved params, the data, the code and the libraries."""
    parts = {
        "checkpoint": record,
        "fold": fold,
        "params": params.resolved(),
        "data": [_digest(path) for path in data],
        "code": [_digest(path) for path in code()],
        "versions": versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def code() -> list[Path]:
    """The modules that a training depends on, as dvc.yaml lists them for its stage `train`."""
    root = Path(__file__).parents[2]
    pipeline = yaml.safe_load((root / PIPELINE).read_text(encoding="utf-8"))
    listed = pipeline["stages"]["train"]["deps"]
    found = [root / name for name in listed if name.startswith("stages/")]
    return sorted(p for path in found for p in ([path] if path.is_file() else path.rglob("*.py")))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
