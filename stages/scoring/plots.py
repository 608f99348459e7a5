"""The CSV files behind the plots that dvc.yaml declares."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from stages.config.paths import PLOTS
from stages.scoring import scores
from stages.votes.labels import Votes


def write_plots(
    curves: list[pd.DataFrame],
    votes: Votes,
    probabilities: np.ndarray,
    to_beat: float,
    start: float,
    folder: Path = PLOTS,
) -> None:
    """Write the CSV files that dvc.yaml's plots show.

    Args:
        to_beat: log loss of the reference.
        start: validation loss before training, as loss_before_training gives it.
    """
    before = pd.DataFrame({"epoch": [0.0], "validation_loss": [start]})
    validation = pd.concat([before, mean_curve(curves, "epoch", "validation_loss")])
    tables = {
        "training_loss": mean_curve(curves, "step", "training_loss"),
        "validation_loss": validation.assign(to_beat=to_beat),
        "confusion": scores.confusion(votes, probabilities),
        "calibration": scores.calibration(votes, probabilities),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)


def mean_curve(curves: list[pd.DataFrame], x: str, y: str) -> pd.DataFrame:
    """The folds' mean of y at each x where any has measured it."""
    points = pd.concat(curves)[[x, y]].dropna().round({x: 3})
    return points.groupby(x, as_index=False).mean()


def loss_before_training(objective: str, offset: bool, to_beat: float, classes: int) -> float:
    """A zero head gives ln C, as the gate first_loss has made sure, or the offset's own log loss.

    A language model may start anywhere: NaN.
    """
    if objective == "sft":
        return math.nan
    return to_beat if offset else math.log(classes)
