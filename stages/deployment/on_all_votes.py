"""One training by a run's settings in which every vote is trained on."""

import shutil
from pathlib import Path

import pandas as pd
from filelock import FileLock

from stages.backbones import sources
from stages.config import paths
from stages.config.params import Params
from stages.config.paths import BATTLES, FOLDS
from stages.config.root import state
from stages.config.versions import versions
from stages.runs.ensemble import made_up
from stages.training import beside
from stages.training.adapter import save
from stages.training.checkpoints import writing
from stages.training.fingerprint import fingerprint
from stages.training.fold import train_fold
from stages.training.run import read_inputs, read_lessons
from stages.training.soft_targets import SAYS, taught
from stages.votes.labels import targets_of

NONE = -2  # a fold that holds nothing out
OF_HELD_OUT = ("truncated_share", "tokens_dropped_share")  # in a fold's summary


def train_on_all(params: Params, folder: Path) -> dict:
    """Train an adapter on all votes and write it into a folder that has the run's other files.

    A training predicts what it holds out. Here that is a few made-up battles, which are no votes.
    One that was killed goes on from its last checkpoint.

    Returns:
        The summary of the training, with its gates and its cost.

    Raises:
        GateFailed: the run cannot learn, or went wrong.
    """
    record, weights, battles = read_inputs(params)
    training, _ = beside.parts(battles, NONE)
    asked = made_up(targets_of(battles).shape[1])
    data = [BATTLES, FOLDS]
    if params.teacher.teaches:
        training = taught(training, asked, lessons_of_all_folds(params), params.teacher)
        data += [paths.teacher(fold) for fold in params.split.folds]
    key = fingerprint(record, NONE, params, data)
    checkpoints = state() / "checkpoints" / key[:16]
    checkpoints.mkdir(parents=True, exist_ok=True)
    with FileLock(checkpoints.with_suffix(".lock")):
        trained = train_fold(weights, training, asked, params, checkpoints)
        with writing("what was learned from all votes", folder):
            base = sources.name_of_base(record, params.checkpoint)
            save(trained, base, record["revision"], folder)
        shutil.rmtree(checkpoints)
    summary = {name: fact for name, fact in trained.summary.items() if name not in OF_HELD_OUT}
    return {"fingerprint": key, **summary, "versions": versions()}


def lessons_of_all_folds(params: Params) -> pd.DataFrame:
    """What the teachers of all folds say of a vote or a pair, as their mean."""
    every = pd.concat([read_lessons(fold) for fold in params.split.folds], ignore_index=True)
    means = every.groupby("id")[list(SAYS)].transform("mean")
    return every.assign(**means).drop_duplicates("id", ignore_index=True)
