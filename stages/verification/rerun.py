"""A revision run again from nothing, beside what it recorded."""

from pathlib import Path

from stages.config.errors import UserError
from stages.config.paths import LOCK
from stages.config.root import root
from stages.runs.lock import read_lock
from stages.runs.revisions import resolve
from stages.verification import clone


def run_again(name: str, reuse_weights: bool, folder: Path) -> tuple[Path, Path, bool]:
    """Lay out what a revision recorded and what running it again gives.

    Args:
        name: of a DVC experiment or a git revision.
        reuse_weights: take the base weights that are fetched already.
        folder: an empty one.

    Returns:
        The recorded run's folder, the new one's, and whether the pipeline ran to its end.

    Raises:
        UserError: there is no such revision, nothing recorded in it, or an input is nowhere.
    """
    repository = root()
    commit = resolve(name, repository)
    # As deep as the repository, so that `../votes.csv` in params.yaml stays inside the folder.
    recorded, again = folder / "recorded", folder / "again" / repository.relative_to("/")
    for place in (recorded, again):
        clone.checkout(repository, commit, place)
    if not read_lock(recorded):
        raise UserError(f"{name} has no {LOCK}: run `dvc repro`, commit what it recorded, verify")
    clone.bring_inputs(repository, commit, again)
    clone.bring_teacher(repository, again)
    if reuse_weights:
        clone.link_weights(repository, again)
    print(f"running {name} ({commit[:8]}) again in {again}", flush=True)
    ended = clone.reproduce(again)
    clone.fetch_recorded(repository, commit, recorded, again)
    return recorded, again, ended
