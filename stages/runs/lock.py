"""A run's dvc.lock: which inputs and params gave which outs."""

import hashlib
import json
from functools import reduce
from pathlib import Path

from ruamel.yaml import YAML

from stages.config.errors import UserError
from stages.config.paths import LOCK, PARAMS

Lock = dict[str, dict]  # by stage: cmd, deps, params, outs


def read_lock(folder: Path) -> Lock:
    """The stages in a folder's dvc.lock; none if there is no such file."""
    path = folder / LOCK
    return _read_yaml(path)["stages"] if path.exists() else {}


def _read_yaml(path: Path) -> dict:
    return YAML(typ="safe", pure=True).load(path)  # 1.2, as DVC writes it: 2e-05 is a number


def check_params(folder: Path, lock: Lock) -> None:
    """Whether the outs were made with the params beside them: a hand may have edited these since.

    Raises:
        UserError: they were not, or not in all folds.
    """
    params = _read_yaml(folder / PARAMS)  # as written: a rate is one number, or one an objective
    chosen = {f"scales.{params['scale']}", f"backbones.{params['model']}"}
    folds = params["split"]["folds"]
    needed = {"prepare": {"data"}} | {f"train@{k}": chosen for k in folds}
    needed |= {f"teacher@{k}": set() for k in folds}
    for name, keys in needed.items():
        used = lock.get(name, {}).get("params", {}).get(str(PARAMS), {})
        changed = [key for key, value in used.items() if _lookup(params, key) != value]
        changed += keys - used.keys()
        if changed:
            raise UserError(
                f"{PARAMS}: expected what stage {name} ran with, found "
                f"{', '.join(sorted(changed))} not as in {LOCK}. Run `dvc repro`, or bring back "
                "the params of these results"
            )


def _lookup(tree: dict, key: str) -> object:
    return reduce(lambda section, name: section.get(name, {}), key.split("."), tree)


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
