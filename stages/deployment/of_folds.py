"""The folds' adapters of the workspace's run averaged, and how near their mean comes to them."""

from pathlib import Path

import numpy as np
import pandas as pd
from peft import load_peft_weights
from safetensors.torch import save_file

from stages.config.params import Params, load
from stages.config.paths import ADAPTER_FILES, OFFSET_FILE
from stages.counting import offset
from stages.counting.offset import Offset
from stages.deployment.averaging import average
from stages.runs.ensemble import Ensemble
from stages.runs.files import adapters_in, copy_files
from stages.votes.prepared import read_folded_battles
from stages.votes.rows import TURNS

COMPARED = 16  # votes on which the mean is compared with the folds


def average_folds(params: Params, folder: Path) -> dict:
    """Write the mean of the folds' adapters into a folder that has the run's other files.

    Returns:
        How much the cut to the rank has kept, and how far its predictions are from the folds'.
    """
    folds = adapters_in(Path(), params)
    rank = params.train.lora.r
    mean, kept = average([load_peft_weights(str(fold), "cpu") for fold in folds], rank)
    others = [path.relative_to(folds[0]) for path in folds[0].iterdir()]
    own = {Path(ADAPTER_FILES[1]), Path(OFFSET_FILE), Path("README.md")}
    copy_files(folds[0], sorted(set(others) - own), folder)
    save_file(mean, folder / ADAPTER_FILES[1], metadata={"format": "pt"})
    if params.train.offset:
        _mean_offset([offset.load(fold / OFFSET_FILE) for fold in folds]).save(folder / OFFSET_FILE)
    return {"rank": rank, "kept_by_the_cut": kept, **_distance(folder)}


def _mean_offset(offsets: list[Offset]) -> Offset:
    """The regression whose coefficients are the means of the folds'."""
    weights = sum((each.weights for each in offsets[1:]), offsets[0].weights)
    intercept = sum((each.intercept for each in offsets[1:]), offsets[0].intercept)
    return Offset(weights / len(offsets), intercept / len(offsets))


def _distance(folder: Path) -> dict:
    """How far its probabilities are from the mean of the folds' on some of the run's votes.

    This needs no vote that is new to them: it says whether they agree, and not who is right.
    """
    battles = some_votes(COMPARED)
    folds = Ensemble(Path()).predict(battles).averaged
    off = np.abs(Ensemble(folder).predict(battles).averaged - folds)
    return {"compared": len(battles), "mean_distance": off.mean(), "largest_distance": off.max()}


def some_votes(count: int, ids: set[str] | None = None) -> pd.DataFrame:
    """So many of the votes that the workspace's folds hold, from all over them.

    Args:
        ids: of which the votes are taken; any if None.
    """
    battles = read_folded_battles([*TURNS, "system"], load().split.folds)
    if ids is not None:
        battles = battles[battles.id.isin(ids)]
    places = np.linspace(0, len(battles) - 1, min(count, len(battles))).astype(int)
    return battles.iloc[np.unique(places)].reset_index(drop=True)
