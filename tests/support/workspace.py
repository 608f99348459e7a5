"""A folder in which the stages of one fold run as processes."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import yaml

from tests.support import forked
from tests.support.places import REPO
from tests.support.settings import raw_params

FAST = {"rows": 24, "max_tokens": 128, "token_budget": 256, "batch_size": 4, "epochs": 2}


class Workspace:
    """A folder with what the stage `train` needs, as `prepare`, `split` and `weights` leave it."""

    def __init__(self, path: Path, checkpoint: Path, battles: pd.DataFrame) -> None:
        self.path = path
        self.raw = raw_params()
        self.raw["scales"]["smoke"] |= FAST
        self.raw["train"] |= {"dtype": "float32", "log_steps": 1, "save_steps": 2}
        entry = {"folder": str(checkpoint), "lr": 5.0e-3, "head_lr": 5.0e-3}
        self.raw["backbones"]["llama"]["small"] = entry
        self.write_params()
        folds = pd.DataFrame({"id": battles.id, "group": battles.id})
        folds["fold"] = np.arange(len(battles)) // 3 % 2
        for name, frame in (("prepared/battles", battles), ("folds/folds", folds)):
            file = path / f"data/{name}.parquet"
            file.parent.mkdir(parents=True)
            frame.to_parquet(file)
        self.run("weights")

    def copied(self, path: Path) -> Self:
        """A copy, whose params may be changed."""
        other = copy.copy(self)
        other.path, other.raw = shutil.copytree(self.path, path), copy.deepcopy(self.raw)
        return other

    def write_params(self) -> None:
        (self.path / "params.yaml").write_text(yaml.safe_dump(self.raw), encoding="utf-8")

    def start(
        self, *stage: str, largest_file: int | None = None, forks: bool = True
    ) -> subprocess.Popen:
        """Start a stage, which can write no larger file, as if the disk were full.

        Args:
            forks: whether it is forked from another process, whose child it is then.
        """
        python = forked.commands() / "python" if forks else sys.executable
        limit = ["tests.support.limited", str(largest_file)] if largest_file else []
        environment = os.environ | {"PYTHONPATH": str(REPO), "DVC_ROOT": str(self.path)}
        return subprocess.Popen(
            [python, "-m", *limit, f"stages.{stage[0]}", *stage[1:]],
            cwd=self.path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *stage: str) -> str:
        process = self.start(*stage)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    def kill_after(self, step: int, *stage: str) -> None:
        """Start a stage and kill it as soon as its checkpoint of that step is whole."""
        process = self.start(*stage)
        checkpoints = self.path / ".state/checkpoints"
        last = f"*/checkpoint-{step}/trainer_state.json"
        while not any(file.read_text().endswith("}\n") for file in checkpoints.glob(last)):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def predictions(self) -> pd.DataFrame:
        return pd.read_parquet(self.path / "data/predictions/fold-0.parquet")

    def summary(self) -> dict:
        return json.loads((self.path / "metrics/folds/fold-0.json").read_text(encoding="utf-8"))

    def curves(self) -> pd.DataFrame:
        return pd.read_csv(self.path / "metrics/folds/fold-0.csv")
