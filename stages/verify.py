"""python -m stages.verify [EXPERIMENT]: run a revision again from nothing, and compare.

The revision is cloned into a temporary folder, where its whole pipeline runs with a state folder of
its own and no cache. Exit status: 0 if what is recorded was made again, 1 if not.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from stages.config.errors import UserError, stage
from stages.config.paths import LOCK
from stages.config.root import root
from stages.runs.lock import read_lock
from stages.runs.revisions import resolve
from stages.verification import clone
from stages.verification.differences import TOLERANCE
from stages.verification.judgement import judge


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
    if reuse_weights:
        clone.link_weights(repository, again)
    print(f"running {name} ({commit[:8]}) again in {again}", flush=True)
    ended = clone.reproduce(again)
    clone.fetch_recorded(repository, commit, recorded, again)
    return recorded, again, ended


@stage
def main() -> None:
    """Verify a revision; keep both runs if it fails."""
    parser = argparse.ArgumentParser(prog="python -m stages.verify", description=__doc__)
    parser.add_argument("experiment", nargs="?", default="HEAD", help="or git revision")
    parser.add_argument(
        "--tolerance",
        type=float,
        help="of log losses; by default 0 on the same CPU with the same libraries, and "
        f"{TOLERANCE:g} elsewhere",
    )
    parser.add_argument(
        "--reuse-weights",
        action="store_true",
        help="take the base weights from this repository's state folder instead of fetching them",
    )
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="verify-"))
    try:
        recorded, again, ended = run_again(options.experiment, options.reuse_weights, folder)
    except UserError:
        shutil.rmtree(folder)
        raise
    verified, text = judge(options.experiment, recorded, again, ended, options.tolerance)
    print(f"\n{text}")
    if not verified:
        print(f"Both runs are kept in {folder}")
        raise SystemExit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
