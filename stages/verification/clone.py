"""A clean clone of a revision, and its pipeline run in it with nothing of earlier runs at hand."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from dvc.api import DVCFileSystem
from dvc.repo import Repo
from dvc_data.index import DataIndexDirError

from stages.config.errors import UserError
from stages.config.interrupts import run
from stages.config.params import load
from stages.config.paths import LOCK, PARAMS
from stages.runs.lock import changed, read_lock
from stages.runs.revisions import resolve


def checkout(repository: Path, commit: str, folder: Path) -> None:
    """Put a commit's files into a repository of their own, which shares nothing with the first."""
    folder.mkdir(parents=True)
    for command in (
        ["init", "--quiet", "--template="],
        # Protocol 2 gives any commit by its hash, also one of an experiment or a shallow clone.
        ["-c", "protocol.version=2", "fetch", "--quiet", "--depth=1", repository.as_uri(), commit],
        ["checkout", "--quiet", "--detach", "FETCH_HEAD"],
    ):
        subprocess.run(["git", *command], cwd=folder, env=environment(), check=True)


def fetch_recorded(repository: Path, commit: str, recorded: Path, again: Path) -> None:
    """Bring outs that have another hash again from the repository's cache or remote.

    Those that are in neither stay away.
    """
    files = DVCFileSystem(repository, rev=commit)
    old, new = read_lock(recorded), read_lock(again)
    outs = [path for name in old.keys() & new for path in changed(old[name], new[name], "outs")]
    for path in outs:
        if not (recorded / path).exists():
            (recorded / path).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError, DataIndexDirError):
                files.get(path, str(recorded / path), recursive=True)


def bring_inputs(repository: Path, commit: str, clone: Path) -> None:
    """Give the clone what its params name and git does not hold: votes and a checkpoint's folder.

    Votes that DVC tracks come from its cache or remote, other files from where the user has them.

    Raises:
        UserError: one is nowhere.
    """
    params = load(clone / PARAMS)
    recorded = DVCFileSystem(repository, rev=commit)
    files = [params.data.raw, params.checkpoint.folder]
    files += [file.raw for file in params.data.auxiliary]
    files += [file.raw for file in params.teacher.predictions]
    files += [file.raw for file in params.teacher.pairs]
    for name in filter(None, files):
        place = Path(os.path.normpath(clone / Path(name).expanduser()))
        if place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        original = (repository / name).resolve()
        if recorded.exists(name):
            recorded.get(name, str(place))
        elif original.exists():
            place.symlink_to(original)
        else:
            raise UserError(f"{name}, which {PARAMS} names, is neither in {repository} nor tracked")


def bring_teacher(repository: Path, clone: Path) -> None:
    """Let the clone find the run that teaches: its commit, and its outs, in a remote.

    Raises:
        UserError: there is no such run.
    """
    name = load(clone / PARAMS).teacher.run
    if name is None:
        return
    commit = resolve(name, repository)
    git = ["git", "-c", "protocol.version=2"]
    fetch = ["fetch", "--quiet", "--depth=1", repository.as_uri(), commit]
    subprocess.run([*git, *fetch], cwd=clone, env=environment(), check=True)
    # What is no name, such as a hash, is found without.
    subprocess.run(["git", "tag", name, commit], cwd=clone, env=environment(), capture_output=True)
    with Repo(repository) as repo:
        cache = Path(repo.cache.local.path).parents[1]
    add = ["remote", "add", "--local", "--default", "teacher", str(cache)]
    subprocess.run([sys.executable, "-m", "dvc", *add], cwd=clone, env=environment(), check=True)


def link_weights(repository: Path, clone: Path) -> None:
    """Let the clone use the base weights that the repository has fetched; nothing else of it."""
    weights = repository / ".state/weights"
    weights.mkdir(parents=True, exist_ok=True)
    (clone / ".state").mkdir()
    (clone / ".state/weights").symlink_to(weights)


def environment() -> dict[str, str]:
    """The process's environment without what ties git, DVC and MLflow to the user's repository."""
    tied = ("DVC_ROOT", "DVC_EXP_", "DVC_STAGE", "MLFLOW_", "GIT_DIR", "GIT_WORK", "GIT_INDEX")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(tied)}
    programs = Path(sys.executable).parent
    return kept | {"PATH": f"{programs}{os.pathsep}{kept['PATH']}"}


def reproduce(clone: Path) -> bool:
    """Run the pipeline in a clone, all of it, and say whether it ran to its end.

    There is nothing to take a result from: neither dvc.lock nor a cache, a run cache, checkpoints,
    or the user's tracking store.
    """
    (clone / LOCK).unlink(missing_ok=True)
    own = {
        "DVC_SITE_CACHE_DIR": str(clone / ".dvc/site"),
        "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
    }
    for command in (
        ["config", "--local", "cache.dir", "cache"],
        ["repro", "--no-run-cache"],
    ):
        status = run([sys.executable, "-m", "dvc", *command], cwd=clone, env=environment() | own)
    return status == 0
