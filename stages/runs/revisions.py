"""Files of git revisions and DVC experiments, through DVC's own API: git, cache, then remote."""

from collections.abc import Iterable
from pathlib import Path

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.repo import Repo
from dvc.scm import RevError, resolve_rev
from dvc_data.index import DataIndexDirError

from stages.config.errors import UserError

NOT_RECORDED = (
    "is not there: only a pipeline that has ended has results. Check that revision out, run "
    "`dvc repro`, then `git add -A && git commit`, and name the new commit"
)


def resolve(name: str, repository: Path = Path()) -> str:
    """The commit of a git revision, a branch or a DVC experiment.

    Raises:
        UserError: there is none of that name, or no repository.
    """
    try:
        with Repo(repository) as repo:
            try:
                return resolve_rev(repo.scm, name)
            except RevError:
                known = [
                    exp
                    for found in repo.experiments.ls(all_commits=True).values()
                    for exp, _ in found
                ]
    except NotDvcRepoError:
        raise UserError(f"{repository} is no DVC repository: run from its root") from None
    except OSError as error:
        raise UserError(
            f"DVC cannot open {repository} ({error}): it needs its notes in .dvc/tmp. Run `dvc "
            "status` once where the repository can be written"
        ) from None
    if known.count(name) > 1:
        raise UserError(
            f"{known.count(name)} experiments are called {name}: name a commit, as "
            "`dvc exp list --all-commits --sha-only` gives it, or remove one with `dvc exp remove`"
        )
    raise UserError(
        f"{name} is neither a git revision nor a DVC experiment; the experiments are "
        f"{', '.join(sorted(known)) or 'none'} (`dvc exp list --all-commits`)"
    )


def get(commit: str, paths: Iterable[Path], folder: Path, repository: Path = Path()) -> None:
    """Copy files or folders of a commit below a folder.

    Raises:
        UserError: one is not recorded there, or neither in git nor in DVC's cache or remote.
    """
    files = DVCFileSystem(str(repository.resolve()), rev=commit)
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            files.get(str(path), str(folder / path), recursive=files.isdir(str(path)))
        except (OSError, DataIndexDirError, DvcException) as error:
            recorded = isinstance(error, DataIndexDirError) or files.exists(str(path))
            why = _not_stored(error) if recorded else NOT_RECORDED
            raise UserError(f"{path} of {commit[:7]} {why}") from None


def _not_stored(error: Exception) -> str:
    return (
        f"is recorded there, but neither in DVC's cache nor in a remote ({error}). `dvc push` it "
        "where it was made. Or make it anew: check that revision out, run `dvc repro`, then `git "
        "add -A && git commit`, and name the new commit, whose numbers may differ by rounding"
    )
