"""The files of a finished run, below a folder laid out as the repository."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.config.errors import UserError
from stages.config.params import Params, load
from stages.config.paths import (
    ADAPTER_FILES,
    BLEND,
    BLENDS,
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


def is_blend(folder: Path) -> bool:
    """Whether `python -m stages.blend` has written a folder, or it is a copy of such."""
    return (folder / BLEND).is_file()


def require_blend(folder: Path) -> None:
    """Raise a UserError unless a folder is a blend's."""
    if not is_blend(folder):
        known = ", ".join(sorted(str(path.parent) for path in BLENDS.glob(f"[!.]*/{BLEND}")))
        raise UserError(
            f"{folder} is no blend: expected a folder that `python -m stages.blend` has written, "
            f"with {BLEND} in it; the blends are {known or 'none'}"
        )


def runs_of(folder: Path) -> list[Path]:
    """The folders of the runs that a folder holds: of a blend its members', else itself."""
    if not is_blend(folder):
        return [folder]
    return [folder / run["folder"] for run in read_json(folder / BLEND)["runs"]]


def model_files_in(folder: Path) -> list[Path]:
    """Those that predicting reads in the folder of a run or a blend, relative to it."""
    if not is_blend(folder):
        return model_files(load(folder / PARAMS))
    baselines = [Path(each["file"]) for each in read_json(folder / BLEND)["baselines"]]
    members = [run / name for run in runs_of(folder) for name in model_files_in(run)]
    return [BLEND, CALIBRATION, *baselines, *(path.relative_to(folder) for path in members)]


def require(folder: Path, paths: Iterable[Path], purpose: str) -> None:
    """Raise a UserError that names what is missing.

    Args:
        purpose: what only a pipeline that has ended does, as `can predict`.
    """
    missing = [str(path) for path in paths if not (folder / path).exists()]
    if missing and is_blend(folder):
        raise UserError(
            f"{', '.join(missing)} not found in the blend: make it anew, `python -m stages.blend`"
        )
    if missing:
        raise UserError(
            f"{', '.join(missing)} not found: only a pipeline that has ended {purpose}. Run `dvc "
            "repro`, or `dvc checkout` if it has run already"
        )


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
