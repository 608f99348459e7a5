"""A run's dvc.lock: which inputs gave which outs."""

import hashlib
import json
from pathlib import Path

from ruamel.yaml import YAML

LOCK = Path("dvc.lock")
Lock = dict[str, dict]  # by stage: cmd, deps, params, outs


def read_lock(folder: Path) -> Lock:
    """The stages in a folder's dvc.lock; none if there is no such file."""
    path = folder / LOCK
    # YAML 1.2, as DVC writes it: 2e-05 is a number.
    return YAML(typ="safe", pure=True).load(path)["stages"] if path.exists() else {}


def hashes(stage: dict, kind: str) -> dict[str, str]:
    """MD5 by path of a stage's `deps` or `outs`."""
    return {entry["path"]: entry["md5"] for entry in stage.get(kind, [])}


def changed(recorded: dict, again: dict, kind: str) -> list[str]:
    """Paths of a stage's `deps` or `outs` whose MD5 is another, or which only one of both has."""
    old, new = hashes(recorded, kind), hashes(again, kind)
    return [path for path in old | new if old.get(path) != new.get(path)]


def producers(lock: Lock, stage: str) -> dict[str, list[str]]:
    """The stages that made each dependency of a stage; none made the votes and the code."""
    return {
        dep: [
            name for name in lock if any(_overlap(dep, out) for out in hashes(lock[name], "outs"))
        ]
        for dep in hashes(lock[stage], "deps")
    }


def _overlap(dep: str, out: str) -> bool:
    """Whether one is the other, or is the folder that the other is in."""
    return Path(dep).is_relative_to(out) or Path(out).is_relative_to(dep)


def files_of(out: Path) -> list[Path]:
    """The files of an out, relative to it; `.` if it is itself a file."""
    return sorted(path.relative_to(out) for path in [out, *out.rglob("*")] if path.is_file())


def md5_of(out: Path) -> str:
    """MD5 of a file, or of a folder as DVC 3 hashes the list of its files."""
    if out.is_file():
        with out.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    names = sorted(path.as_posix() for path in files_of(out))
    files = [{"md5": md5_of(out / name), "relpath": name} for name in names]
    return hashlib.md5(json.dumps(files, sort_keys=True).encode()).hexdigest() + ".dir"
