"""What differs between a recorded run and the same run made again: on two folders, pure.

Both folders are laid out as the repository, each with its dvc.lock. Outs that are in the lock but
not in the folder of the recorded run are judged by their hash alone.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from stages.config.paths import PLOTS, PROVENANCE
from stages.runs.lock import changed, files_of, hashes, md5_of, read_lock
from stages.runs.recording import COSTS

TOLERANCE = 1e-3  # of log loss, where libraries, device or processor are others
# Times the tolerance, for metrics not in nats: one row that tips over moves a share of rows a lot.
SHARES = 20
# On what and where a run took place, which need not agree; a gate's value is a measured text.
CIRCUMSTANCES = {
    "versions",
    "device",
    "processes",
    "dtype",
    "attention",
    "compiled",
    "memory",
    "fingerprint",
    "value",
}
PLACES = {"base_model_name_or_path"}
SETS = {"target_modules"}  # which PEFT writes in the order of Python's hashes, another every time


@dataclass(frozen=True)
class Difference:
    """A value that differs.

    Attributes:
        where: its name and its file.
        size: the largest absolute difference; infinite where it is not one of numbers.
        allowed: whether it is within the tolerance.
    """

    where: str
    size: float
    allowed: bool


@dataclass(frozen=True)
class Outcome:
    """What came of one stage that ran again.

    Attributes:
        stage: its name.
        agreement: `identical` (every hash), `same` (but for what it cost and where it ran), `within
            tolerance`, `differs` or `not recorded`.
        unseen: files of another hash that could not be compared.
    """

    stage: str
    agreement: str
    differences: list[Difference]
    unseen: list[str]

    @property
    def verified(self) -> bool:
        """Whether what is recorded holds."""
        return self.agreement in ("identical", "same", "within tolerance")


def tolerance_for(recorded: Path, again: Path) -> float:
    """0 where the same arithmetic to the last bit can be expected, else TOLERANCE.

    On a GPU it cannot. A CPU's model is not recorded; but if the baselines, which sum many floats
    without a backbone, have the same bits, then it computes alike.
    """
    old, new = circumstances(recorded), circumstances(again)
    on_cpu = bool(old) and all(fold["device"].startswith("cpu") for fold in old)
    baselines = [read_lock(run).get("baselines", {}) for run in (recorded, again)]
    alike = not changed(baselines[0], baselines[1], "outs")
    return 0.0 if on_cpu and old == new and alike else TOLERANCE


def circumstances(run: Path) -> list[dict[str, str]]:
    """Library versions, device, dtype, … of each fold's training, where recorded."""
    path = run / PROVENANCE
    folds = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    names = ("device", "processes", "dtype", "attention")
    return [fold["versions"] | {name: fold[name] for name in names} for fold in folds]


def edited(run: Path) -> list[str]:
    """The outs in a run's folder that are not what the run wrote, by the hash in its dvc.lock."""
    return [
        path
        for stage in read_lock(run).values()
        for path, md5 in hashes(stage, "outs").items()
        if (run / path).exists() and md5_of(run / path) != md5
    ]


def outcomes(recorded: Path, again: Path, tolerance: float) -> list[Outcome]:
    """Compare the outs of every stage that ran again with the recorded ones.

    Args:
        tolerance: of log losses, in nats; 0 asks for equal numbers. What a run cost is not
            compared.
    """
    old, new = read_lock(recorded), read_lock(again)
    return [
        _outcome(name, changed(old[name], new[name], "outs"), recorded, again, tolerance)
        if name in old
        else Outcome(name, "not recorded", [], [])
        for name in new
    ]


def _outcome(stage: str, outs: list[str], recorded: Path, again: Path, tolerance: float) -> Outcome:
    differences, unseen = [], []
    for out in outs:
        if not (recorded / out).exists():
            unseen.append(f"{out} (the recorded one is in no cache)")
            continue
        for file in sorted({*files_of(recorded / out), *files_of(again / out)}):
            path = Path(out, file)
            try:
                differences += _compare_file(path, recorded, again, tolerance)
            except KeyError:
                unseen.append(str(path))
    return Outcome(stage, _agreement(outs, differences), differences, unseen)


def _agreement(outs: list[str], differences: list[Difference]) -> str:
    if not outs:
        return "identical"
    if not differences:
        return "same"
    return "within tolerance" if all(d.allowed for d in differences) else "differs"


def _compare_file(path: Path, recorded: Path, again: Path, tolerance: float) -> list[Difference]:
    files = [recorded / path, again / path]
    if not all(file.exists() for file in files):
        return [Difference(f"{path} in one run only", float("inf"), False)]
    if md5_of(files[0]) == md5_of(files[1]):
        return []
    old, new = (READERS[path.suffix](file) for file in files)
    sizes = {key: distance(old.get(key), new.get(key)) for key in old | new}
    return [
        Difference(f"{key} in {path}", size, size <= _limit(path, key, tolerance))
        for key, size in sizes.items()
        if size
    ]


def distance(old: np.ndarray | None, new: np.ndarray | None) -> float:
    """The largest absolute difference of two arrays; infinite unless both hold floats alike."""
    if old is None or new is None or old.shape != new.shape:
        return float("inf")
    if old.dtype.kind != "f" or new.dtype.kind != "f":
        return 0.0 if np.array_equal(old, new) else float("inf")
    if not np.array_equal(np.isnan(old), np.isnan(new)):
        return float("inf")
    return float(np.nan_to_num(np.abs(old.astype(float) - new.astype(float))).max(initial=0.0))


def _limit(path: Path, key: str, tolerance: float) -> float:
    """How far a value may be off.

    With a tolerance the metrics decide. Floats in other files (logits, weights, curves) are told
    only, and so are the plots, which show the same rows as the metrics.
    """
    if not tolerance:
        return 0.0
    if path.is_relative_to(PLOTS):
        return float("inf")
    if path.parts[0] != "metrics" or path.suffix != ".json":
        return sys.float_info.max
    in_nats = any(word in key for word in ("loss", "gain", "baselines"))
    return tolerance if in_nats else SHARES * tolerance


# Reading


def _json(path: Path) -> dict[str, np.ndarray]:
    tree = json.loads(path.read_text(encoding="utf-8"))
    return {name: np.asarray(value) for name, value in _leaves(tree)}


def _leaves(tree: object, name: str = "") -> Iterator[tuple[str, object]]:
    """The values in nested mappings and lists under dotted names, but for what need not agree."""
    if not isinstance(tree, dict | list):
        yield name, tree
        return
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if key not in COSTS | CIRCUMSTANCES | PLACES:
            ordered = sorted(value) if key in SETS else value
            yield from _leaves(ordered, f"{name}.{key}" if name else str(key))


def _table(read: Callable[[Path], pd.DataFrame]) -> Callable[[Path], dict[str, np.ndarray]]:
    return lambda path: {str(name): _column(column) for name, column in read(path).items()}


def _column(column: pd.Series) -> np.ndarray:
    is_float = pd.api.types.is_float_dtype(column)
    return column.to_numpy() if is_float else column.map(repr).to_numpy(dtype=object)


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".json": _json,
    ".csv": _table(pd.read_csv),
    ".parquet": _table(pd.read_parquet),
    ".safetensors": load_file,
}
