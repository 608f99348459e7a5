"""One adapter out of a run's folds: trained anew on all votes, or their mean.

It lies in models/refit with copies of the run's results, so that it stays whole when another run
takes the workspace's place.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Literal, TypeAlias

from stages.config.json_files import write_json
from stages.config.params import load
from stages.config.paths import CALIBRATION, REFIT, REFIT_FACTS, SPLIT_METRICS, WEIGHTS
from stages.deployment.of_folds import average_folds
from stages.deployment.on_all_votes import train_on_all
from stages.runs import finished
from stages.runs.ensemble import quiet_libraries
from stages.runs.files import copy_files, model_files, require
from stages.runs.finished import RESULTS, WORKSPACE

How: TypeAlias = Literal["train", "average"]
WHOSE = {
    "train": (
        "The metrics and the calibration are the folds', out of fold, and not this adapter's own. "
        "They estimate what these settings give on votes that are not trained on. This adapter was "
        "trained by the same settings on more votes, so it should do about as well, or better."
    ),
    "average": (
        "The metrics and the calibration are the folds', out of fold, and not this adapter's own. "
        "Nothing estimates its log loss: every vote was trained on by all folds but one, so none "
        "is new to their mean."
    ),
}


def refit(how: How) -> dict:
    """Write models/refit from the workspace's run; one that is there is replaced at the end.

    Returns:
        What REFIT_FACTS says of it.

    Raises:
        UserError: the run has not ended, or its outs are not all of one run.
    """
    params = load()
    result = finished.read(Path(), WORKSPACE)
    require(Path(), model_files(params), "can be refitted")
    quiet_libraries()
    with tempfile.TemporaryDirectory(prefix=f"{REFIT.name}-", dir=REFIT.parent) as temporary:
        new = Path(temporary) / REFIT.name
        copy_files(Path(), [*RESULTS, WEIGHTS, CALIBRATION, SPLIT_METRICS], new)
        facts = {
            "how": how,
            "checkpoint": result.checkpoint,
            "folds": params.split.folds,
            "metrics": WHOSE[how],
        }
        write_json(new / REFIT_FACTS, facts)
        facts |= train_on_all(params, new) if how == "train" else average_folds(params, new)
        write_json(new / REFIT_FACTS, facts)
        shutil.rmtree(REFIT, ignore_errors=True)
        new.rename(REFIT)
    return facts
