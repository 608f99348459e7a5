"""What is recorded of a blend, as stages.runs.recording has it of a pipeline's run."""

from pathlib import Path

import pandas as pd

from stages.config.paths import BLEND, CALIBRATION, METRICS, OUT_OF_FOLD
from stages.runs import finished
from stages.runs.files import model_files_in, read_json, require, require_blend, runs_of
from stages.runs.recording import (
    BLENDED,
    Recording,
    digest,
    fingerprint,
    numbers,
    of_code,
    packages,
)


def collect_blend(folder: Path) -> Recording:
    """A blend, from its folder; its page is left out, since it holds texts of votes.

    Raises:
        UserError: it is none, or a file is missing.
    """
    require_blend(folder)
    model = model_files_in(folder)
    require(folder, model, "can be recorded")
    blend, result = read_json(folder / BLEND), finished.read(folder, str(folder))
    members = blend["runs"] + blend["baselines"]
    own = [folder / path for path in (BLEND, METRICS, CALIBRATION, OUT_OF_FOLD)]
    results = [run / path for run in runs_of(folder) for path in finished.RESULTS]
    folds = [summary["fingerprint"] for summary in result.folds]
    tags = {"checkpoint": result.checkpoint, "dvc.stage": "blend"}
    return Recording(
        name=result.checkpoint,
        fingerprint=fingerprint([*folds, digest(blend)], result.metrics),
        tags={**tags, **of_code(), "learned": result.metrics["learned"]},
        params={
            "weights": blend["weights"],
            **{f"member.{place}": member["name"] for place, member in enumerate(members)},
            **{f"weight.{place}": member["weight"] for place, member in enumerate(members)},
        },
        metrics=numbers(result.metrics),
        curves=pd.DataFrame({"step": []}),
        files={path: _place_in(folder, path) for path in own + results},
        votes=(result.params["data"]["raw"], result.raw_votes),
        texts={"environment.txt": packages()},
        model=model,
        root=folder,
    )


def _place_in(folder: Path, path: Path) -> str:
    """The folder among the artifacts of a blend to which a file of it, or a folder's files, go."""
    place = path if path.is_dir() else path.parent
    return (BLENDED / place.relative_to(folder)).as_posix()
