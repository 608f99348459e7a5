"""The files of a finished run, below a folder laid out as the repository."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.config.errors import UserError
from stages.config.params import Params
from stages.config.paths import (
    ADAPTER_FILES,
    CALIBRATION,
    OFFSET_FILE,
    PARAMS,
    SPLIT_METRICS,
    WEIGHTS,
    adapter,
)


def model_files(params: Params) -> list[Path]:
    """Those that predicting reads; the base's weights are fetched, the tokenizer with them."""
    names = [*ADAPTER_FILES, OFFSET_FILE] if params.train.offset else ADAPTER_FILES
    adapters = [adapter(fold) / name for fold in params.split.folds for name in names]
    return [PARAMS, WEIGHTS, CALIBRATION, SPLIT_METRICS, *adapters]


def require(folder: Path, paths: Iterable[Path], purpose: str) -> None:
    """Raise a UserError that names what is missing.

    Args:
        purpose: what only a pipeline that has ended does, as `can predict`.
    """
    missing = [str(path) for path in paths if not (folder / path).exists()]
    if missing:
        raise UserError(
            f"{', '.join(missing)} not found: only a pipeline that has ended {purpose}. Run `dvc "
            "repro`, or `dvc checkout` if it has run already"
        )


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
