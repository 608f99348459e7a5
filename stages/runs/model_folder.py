"""Which model a command uses: the workspace's, an experiment's, a folder's, or one in MLflow."""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.config.params import load
from stages.config.paths import BLENDS, LOCK, PARAMS, REFIT
from stages.config.root import root
from stages.runs import revisions
from stages.runs.files import (
    is_blend,
    is_refit,
    model_files,
    require_blend,
    require_refit,
)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options whose values `model_folder` takes."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--experiment", metavar="NAME", help="a DVC experiment, branch, tag or commit"
    )
    which.add_argument(
        "--model",
        metavar="URI",
        help="a model in MLflow, as runs:/ID/model or models:/NAME@ALIAS; or the folder of a blend "
        f"or of a refitted model, {REFIT}",
    )


@contextmanager
def model_folder(experiment: str | None, model: str | None) -> Iterator[Path]:
    """The folder of an experiment, a model, a blend or a refitted model; else the workspace itself.

    Raises:
        UserError: there is none of that name, or it cannot be fetched.
    """
    with tempfile.TemporaryDirectory(prefix="model-") as temporary:
        if model and (is_blend(Path(model)) or Path(model).parent == BLENDS):
            require_blend(Path(model))
            yield Path(model)
        elif model and (is_refit(Path(model)) or Path(model) == REFIT):
            require_refit(Path(model))
            yield Path(model)
        elif model:
            from stages.runs import tracking  # takes seconds, and only this needs mlflow

            yield tracking.download_model(model, Path(temporary))
        elif experiment:
            yield get_experiment(experiment, Path(temporary))
        else:
            yield Path()


def get_experiment(name: str, folder: Path) -> Path:
    """Copy what an Ensemble reads of an experiment or a git revision into a folder; returns it.

    It is looked for in the user's repository: a throwaway clone of that has no experiments.
    """
    commit = revisions.resolve(name, root())
    revisions.get(commit, [PARAMS, LOCK], folder, root())
    revisions.get(commit, model_files(load(folder / PARAMS)), folder, root())
    return folder
