"""python -m stages.verify [EXPERIMENT]: run a revision again from nothing, and compare.

The revision is cloned into a temporary folder, where its whole pipeline runs with a state folder of
its own and no cache. Exit status: 0 if what is recorded was made again, 1 if not.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from stages.config.errors import UserError, stage
from stages.verification.differences import TOLERANCE
from stages.verification.judgement import judge
from stages.verification.rerun import run_again


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
    except (UserError, KeyboardInterrupt):
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
