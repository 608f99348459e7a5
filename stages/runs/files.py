"""The files of a finished run, below a folder laid out as the repository."""

import json
import shutil
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
    REFIT,
    REFIT_FACTS,
    SPLIT_METRICS,
    WEIGHTS,
    adapter,
)


def model_files(params: Params, folder: Path = Path()) -> list[Path]:
    """Those that predicting reads; the base's weights are fetched, the tokenizer with them.

    Args:
        folder: of the run or the refitted model, to which the paths are relative.
    """
    names = [*ADAPTER_FILES, OFFSET_FILE] if params.train.offset else ADAPTER_FILES
    adapters = [place / name for place in adapters_in(folder, params) for name in names]
    return [PARAMS, WEIGHTS, CALIBRATION, SPLIT_METRICS, *adapters]


def adapters_in(folder: Path, params: Params) -> list[Path]:
    """The adapters' folders, relative to the run's: one a fold; of a refitted model itself."""
    return [Path()] if is_refit(folder) else [adapter(fold) for fold in params.split.folds]


def is_refit(folder: Path) -> bool:
    """Whether `python -m stages.refit` has written a folder."""
    return (folder / REFIT_FACTS).is_file()


def require_refit(folder: Path) -> None:
    """Raise a UserError unless a folder is a refitted model's."""
    if not is_refit(folder):
        raise UserError(
            f"{folder} is no refitted model: expected a folder that `python -m stages.refit` has "
            f"written, with {REFIT_FACTS} in it; run that first, which writes {REFIT}"
        )


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
        return model_files(load(folder / PARAMS), folder)
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


def copy_files(source: Path, paths: Iterable[Path], folder: Path) -> None:
    """Copy files and folders below one folder to the same places below another."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (source / path).is_dir() else shutil.copy
        copy(source / path, folder / path)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
