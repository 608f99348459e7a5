"""A pipeline that has really ended, on tiny backbones: its stages, run within this process."""

import contextlib
import json
import multiprocessing.spawn  # noqa: F401  remembers which is the real Python
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pandas as pd
import pytest
import torch
import yaml

from stages import baselines, evaluate, prepare, publish, split, teacher, train, weights
from stages.config.paths import BATTLES, CALIBRATION
from stages.training.trainer import PackedTrainer
from tests.support import forked
from tests.support.clones import Clone
from tests.support.once import once

FOLDS = (0, 1)
CALIBRATED = {  # nothing that votes and predictions of a tiny run would have to give
    "temperature": 1.25,
    "bias": [0.0, 0.2, -0.1],
    "rules": {"identical": [1.0, 1.0, 8.0], "a_empty": [1, 8, 1], "b_empty": [8, 1, 1]},
}
WITHOUT_TIES = {
    "temperature": 1.25,
    "bias": [0.0, 0.2],
    "rules": {"identical": [1.0, 1.0], "a_empty": [1, 8], "b_empty": [8, 1]},
}
FOREIGN = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "DVC_EXP_NAME")


class Trained(Clone):
    """A clone in which every stage has run, as DVC and git know.

    What a tiny training learns hangs on how the processor rounds. So each fold's trained weights
    are replaced before it predicts, and the calibration is given: folds, battles and orders then
    differ by far on every processor.
    """

    def make(
        self, tiny, ties: bool = True, tuning: float = 0.0, objective: str = "classify"
    ) -> Self:
        """Run the pipeline in an empty folder.

        Args:
            ties: whether the votes have any.
            tuning: the share of them that is reserved.
            objective: of the training.
        """
        super().make(tiny)
        path = self.path
        train = {"dtype": "float32", "objective": objective}
        self.set_params(train=train, split={"tuning": tuning})
        if objective == "reward":  # each answer has half of them
            self.set_params(scales={"smoke": {"max_tokens": 256}})
        if not ties:
            votes = pd.read_csv(path / "data/raw/starter.csv", dtype=str)
            votes[votes.winner_tie == "0"].to_csv(path / "data/raw/decided.csv", index=False)
            self.set_params(data={"raw": "data/raw/decided.csv"})
        for stage in (prepare, split, baselines):
            self.call(stage.main)
        for fold in FOLDS:
            self.call(teacher.main, str(fold))
        self.train()
        self.call(evaluate.main)
        calibrated = CALIBRATED if ties else WITHOUT_TIES
        (path / CALIBRATION).write_text(json.dumps(calibrated), encoding="utf-8")
        self.dvc("commit", "--force", "prepare", "split", "teacher", "train", "evaluate")
        self.commit("Result")
        return self

    def copied(self, path: Path) -> Self:
        return type(self)(shutil.copytree(self.path, path, symlinks=True))

    def train(self) -> None:
        self.call(weights.main)
        for fold in FOLDS:
            with planted_weights(seed=fold):
                self.call(train.main, str(fold))

    def set_params(self, **changes: object) -> None:
        """Change params.yaml; a section's keys that are not named stay."""
        path = self.path / "params.yaml"
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(_merged(raw, changes)), encoding="utf-8")

    def call(self, main, *arguments: str) -> None:
        """Run a stage's `main` in the clone; the processes that it starts are forked."""
        with self.inside(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["stage", *arguments])
            patch.setattr(sys, "executable", str(forked.commands() / "python"))
            main()

    def publish(self, *arguments: str) -> None:
        self.call(publish.main, *arguments)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Work in the clone, as its user would."""
        with contextlib.chdir(self.path), pytest.MonkeyPatch.context() as patch:
            for name in FOREIGN:
                patch.delenv(name, raising=False)
            yield

    def battles(self) -> pd.DataFrame:
        """Those that the folds hold."""
        drawn = pd.read_parquet(self.path / "data/folds/folds.parquet").id
        return pd.read_parquet(self.path / BATTLES).set_index("id").loc[drawn].reset_index()

    def predictions(self, fold: int) -> pd.DataFrame:
        return pd.read_parquet(self.path / f"data/predictions/fold-{fold}.parquet")


def trained_clone(
    factory: pytest.TempPathFactory, tiny, ties: bool = True, objective: str = "classify"
) -> Trained:
    """A copy, to be changed at will, of one that is made once a session; see Trained.make."""
    name = f"trained-{objective}" + ("" if ties else "-without-ties")
    made = once(factory, name, lambda path: Trained(path).make(tiny, ties, 0.0, objective))
    return Trained(made).copied(factory.mktemp("trained") / "clone")


@contextlib.contextmanager
def planted_weights(seed: int) -> Iterator[None]:
    """Let a training end with random weights in adapter and head, whatever it has learned."""
    train, generator = PackedTrainer.train, torch.Generator().manual_seed(seed)

    def train_and_replace(trainer: PackedTrainer, *arguments: object, **named: object) -> None:
        train(trainer, *arguments, **named)
        for weight in trainer.trained:
            weight.data.copy_(0.2 * torch.randn(weight.shape, generator=generator))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackedTrainer, "train", train_and_replace)
        yield


def _merged(tree: dict, changes: dict) -> dict:
    nested = {
        key: _merged(tree[key], value) for key, value in changes.items() if isinstance(value, dict)
    }
    return tree | changes | nested
