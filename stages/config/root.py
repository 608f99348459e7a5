"""Where state that outlives a workspace belongs.

DVC runs queued and temporary experiments in throwaway clones and sets DVC_ROOT to the repository
they came from; weights, checkpoints and the tracking store live there.
"""

import os
from pathlib import Path


def root() -> Path:
    """The user's repository, also from within a throwaway clone of it."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def state() -> Path:
    """The folder of weights, checkpoints and locks; ignored by git, safe to delete."""
    return root() / ".state"
