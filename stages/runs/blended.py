"""A blend as one model: its members' models and baselines, and the mean of what they say."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from stages.config.errors import UserError
from stages.config.params import load
from stages.config.paths import BLEND, CALIBRATION, PARAMS
from stages.runs.ensemble import Ensemble, Prediction, require_run, with_ties
from stages.runs.files import is_blend, is_refit, model_files_in, read_json, require, runs_of
from stages.scoring import calibration, kept
from stages.scoring.learning import mean_of_logs


class Blend:
    """The models of a blend's members, ready to predict; its attributes are those of an Ensemble.

    Every member's base is in memory.

    Args:
        folder: as stages.runs.blending writes it, or a copy of its model's files.
        folds: how many of each member's folds are taken, the first ones; None takes all.

    Raises:
        UserError: see Ensemble; or a member has fewer folds.
    """

    def __init__(self, folder: Path, folds: int | None = None) -> None:
        require_model(folder)
        blend = read_json(folder / BLEND)
        self.checkpoint = f"blend {blend['name']}"
        self.members = [_ensemble(path, folds) for path in runs_of(folder)]
        self.baselines = [kept.load(folder / each["file"]) for each in blend["baselines"]]
        self.weights = np.array([each["weight"] for each in blend["runs"] + blend["baselines"]])
        self.calibration = read_json(folder / CALIBRATION)
        first = self.members[0]
        self.data, self.prior, self.classes = first.data, first.prior, first.classes

    def __len__(self) -> int:
        return len(self.members[0])

    @property
    def passes(self) -> str:
        """How often each member reads a battle, in words."""
        return "; ".join(f"{member.checkpoint}: {member.passes}" for member in self.members)

    def tokens(self, battles: pd.DataFrame) -> np.ndarray:
        """Tokens (n,) that the members together read of each battle."""
        return np.sum([member.tokens(battles) for member in self.members], axis=0)

    def predict(self, battles: pd.DataFrame) -> Prediction:
        """Predict battles; see Ensemble.logits for their columns, and for what was dropped.

        Returns:
            The weighted mean of the log probabilities of the members, each with its orders averaged
            as it does by itself; `dropped` counts the tokens that did not fit into all of them.
        """
        found = [member.predict(battles) for member in self.members]
        counted = [baseline.predict(battles) for baseline in self.baselines]

        def blended(predictions: list[np.ndarray]) -> np.ndarray:
            known = [each[:, : self.classes] for each in predictions]
            return mean_of_logs([*known, *counted], self.weights)

        ab, ba = blended([each.ab for each in found]), blended([each.ba for each in found])
        averaged = blended([each.averaged for each in found])
        final = calibration.apply(averaged, self.calibration, calibration.kinds(battles))
        dropped = np.sum([each.dropped for each in found], axis=0)
        return Prediction(
            with_ties(ab), with_ties(ba), with_ties(averaged), with_ties(final), dropped
        )


Model: TypeAlias = Ensemble | Blend


def require_model(folder: Path) -> None:
    """Raise a UserError unless the run or the blend in a folder can predict; see Ensemble."""
    if is_blend(folder):
        require(folder, model_files_in(folder), "can predict")
    else:
        require_run(folder)


def load_model(folder: Path, folds: int | None = None) -> Model:
    """The model of a run's folder or of a blend's; see these for what goes wrong.

    Args:
        folds: how many folds' models are taken, the first ones; None takes all.
    """
    return Blend(folder, folds) if is_blend(folder) else _ensemble(folder, folds)


def models_of(count: int) -> str:
    """How many models a prediction is the mean of, in words."""
    return "one model" if count == 1 else f"{count} folds"


def _ensemble(folder: Path, folds: int | None) -> Ensemble:
    if folds is None:
        return Ensemble(folder)
    known = load(folder / PARAMS).split.folds
    if is_refit(folder):
        raise UserError(f"--folds: {folder} is one model of all folds; leave --folds out")
    if not 0 < folds <= len(known):
        raise UserError(
            f"--folds: expected 1 to {len(known)}, as many as {folder} has, found {folds}"
        )
    return Ensemble(folder, known[:folds])
