"""A finished run as a teacher: its own model of a fold never saw what that fold holds out."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from stages.config.errors import UserError
from stages.config.params import load
from stages.config.paths import FOLDS, PARAMS, teacher_facts
from stages.config.root import root
from stages.runs import revisions
from stages.runs.model_folder import get_experiment
from stages.votes.labels import LABELS, from_logits

PART = 256  # battles that are predicted together


def predict(name: str, fold: int, folds: pd.DataFrame, battles: pd.DataFrame) -> np.ndarray:
    """What a run's model of a fold says of battles: the mean of both orders, not calibrated.

    A calibration is fitted on the held-out votes of all folds, this one's among them. The teacher
    was trained on most of the votes that it predicts here, and is surer of these than of others.

    Args:
        name: of an experiment or a git revision.
        folds: id, group and fold of all votes in use.
        battles: prompt, response_a, response_b (lists of turns), and system.

    Returns:
        (n, 3) probabilities of A, B and tie.

    Raises:
        UserError: there is no such run, its files are not to be had, or its folds are others.
    """
    with tempfile.TemporaryDirectory(prefix="teacher-") as temporary:
        folder = get_experiment(name, Path(temporary))
        commit = revisions.resolve(name, root())
        revisions.get(commit, [FOLDS], folder, root())
        require_same_folds(name, pd.read_parquet(folder / FOLDS), folds)
        theirs = load(folder / PARAMS)
        require_model(name, theirs.split.folds, fold)
        from stages.runs.ensemble import Ensemble  # takes seconds, and a GPU

        model = Ensemble(folder, [fold])
        starts = tqdm(range(0, len(battles), PART), desc=f"teacher's fold {fold}", unit="part")
        logits = [model.logits(battles.iloc[start : start + PART])[0][0] for start in starts]
    orders = np.concatenate(logits, axis=1)  # (2, n, classes)
    probabilities = (
        from_logits(orders.reshape(-1, model.classes)).reshape(orders.shape).mean(axis=0)
    )
    return np.pad(probabilities, ((0, 0), (0, len(LABELS) - model.classes)))


def files_behind(commit: str, fold: int) -> list[str]:
    """Files of predictions that taught a run, or its teacher, or that one's, and so on.

    Every run in this chain has been checked to have its student's folds, so that none of their
    models of a fold saw what it holds out. What a file's model saw, nothing shows.
    """
    with tempfile.TemporaryDirectory(prefix="teacher-") as temporary:
        folder = Path(temporary)
        revisions.get(commit, [PARAMS], folder, root())
        if not load(folder / PARAMS).teacher.teaches:
            return []
        revisions.get(commit, [teacher_facts(fold)], folder, root())
        facts = json.loads((folder / teacher_facts(fold)).read_text(encoding="utf-8"))
    return facts.get("predictions") or facts.get("files_behind", [])


def require_model(name: str, trained: list[int], fold: int) -> None:
    """Raise a UserError unless a teacher has trained a fold: some may be left out."""
    if fold not in trained:
        raise UserError(
            f"teacher.from is {name}: expected its model of fold {fold}, which alone never saw "
            f"what this run's fold {fold} holds out; found those of folds "
            f"{', '.join(map(str, trained))}. Train it with this run's split.folds"
        )


def require_same_folds(name: str, theirs: pd.DataFrame, ours: pd.DataFrame) -> None:
    """Raise a UserError unless a teacher held out the same votes, with their groups, by fold."""
    keys = ["id", "group", "fold"]
    a, b = (table.loc[table.fold >= 0, keys].astype(str) for table in (theirs, ours))
    both = a.merge(b, how="outer", on=keys, indicator="of")
    if (both.of == "both").all():
        return
    off = both.id[both.of != "both"].unique()
    raise UserError(
        f"teacher.from is {name}: expected this run's folds, since its model of a fold must not "
        f"have seen what this run's fold holds out; found {len(off)} of {both.id.nunique()} votes "
        f"in another fold, or in one of both runs alone, such as {off[0]}. Train it on the same "
        "data with the same seed, split.folds and rows"
    )
