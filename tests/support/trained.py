"""A pipeline that has really ended, on tiny backbones: its stages, run within this process."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages import baselines, evaluate, prepare, publish, split, train, weights
from stages.config.paths import BATTLES
from tests.support.clones import Clone

FOLDS = (0, 1)
FOREIGN = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "DVC_EXP_NAME")


class Trained(Clone):
    """A clone in which every stage has run, as DVC and git know; folds differ in what they say."""

    def __init__(self, path: Path, tiny) -> None:
        super().__init__(path, tiny)
        rates = {"lr": 3.0e-2, "head_lr": 3.0e-2}
        self.set_params(train={"dtype": "float32"}, backbones={"llama": {"small": rates}})
        for stage in (prepare, split, baselines):
            self.call(stage.main)
        self.train()
        self.call(evaluate.main)
        self.dvc("commit", "--force", "prepare", "train", "evaluate")
        self.commit("Result")

    def train(self) -> None:
        self.call(weights.main)
        for fold in FOLDS:
            self.call(train.main, str(fold))

    def set_params(self, **changes: object) -> None:
        """Change params.yaml; a section's keys that are not named stay."""
        path = self.path / "params.yaml"
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(_merged(raw, changes)), encoding="utf-8")

    def call(self, main, *arguments: str) -> None:
        """Run a stage's `main` in the clone."""
        with self.inside(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["stage", *arguments])
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


def _merged(tree: dict, changes: dict) -> dict:
    nested = {
        key: _merged(tree[key], value) for key, value in changes.items() if isinstance(value, dict)
    }
    return tree | changes | nested
