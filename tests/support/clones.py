"""Clones of this checkout with tiny backbones, in which real git and real DVC run."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

import pytest
import yaml

from tests.support import forked
from tests.support.interrupts import sigint
from tests.support.once import once
from tests.support.places import REPO
from tests.support.stores import put_store


class Clone:
    """A clone of this checkout whose llama and gemma are tiny local checkpoints."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, tiny) -> Self:
        """Fill the folder, which is empty."""
        path = self.path
        listed = subprocess.check_output(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=REPO, text=True
        )
        for name in listed.splitlines():
            if (REPO / name).exists() and name != "dvc.lock" and not name.startswith("metrics/"):
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPO / name, path / name)
        raw = yaml.safe_load((path / "params.yaml").read_text(encoding="utf-8"))
        raw["scales"]["smoke"] |= {
            "rows": 40,
            "max_tokens": 128,
            "token_budget": 512,
            "lr_factor": 1.0,
        }
        raw["evaluate"]["draws"] = 200
        raw["train"]["objective"] = "classify"
        for family, architecture in (("llama", "llama"), ("gemma", "gemma3")):
            entry = {"folder": str(tiny(architecture)), "lr": 1.0e-3, "head_lr": 1.0e-3}
            raw["backbones"][family]["small"] = entry
        (path / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
        put_store(path)
        self.git("init", "-q", "-b", "main")
        self.commit("start")
        return self

    def drop(self, *stages: str) -> Self:
        """Take stages that a test does not look at out of the pipeline, and commit that."""
        file = self.path / "dvc.yaml"
        pipeline = yaml.safe_load(file.read_text(encoding="utf-8"))
        for stage in stages:
            del pipeline["stages"][stage]
        file.write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
        self.commit("A shorter pipeline")
        return self

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
        subprocess.run(["git", *who, *arguments], cwd=self.path, check=True, capture_output=True)

    def commit(self, message: str) -> None:
        self.git("add", ".")
        self.git("commit", "-qm", message)

    def dvc(self, *arguments: str, succeeds: bool = True) -> str:
        return self.run("dvc", *arguments, succeeds=succeeds)

    def run(self, *command: str, succeeds: bool = True) -> str:
        """Run a program of this environment in the clone; gives what it prints."""
        # A file, not a pipe: a queue's workers would hold a pipe open.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
            done = subprocess.run(
                command,
                cwd=self.path,
                env=environment(forked.commands()),
                stdout=printed,
                stderr=subprocess.STDOUT,
                timeout=600,
            )
            printed.seek(0)
            output = printed.read()
        assert (done.returncode == 0) == succeeds, output
        return output

    def start(self, *command: str) -> subprocess.Popen:
        """Start a program whose processes are its children, not those of tests.support.forked."""
        with sigint():
            return subprocess.Popen(
                command,
                cwd=self.path,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def stop_workers(self) -> None:
        """End the queue's workers: at times one of DVC's outlives its empty queue."""
        for pid in self.path.glob(".dvc/tmp/exps/celery/*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid.read_text()), signal.SIGKILL)

    def metrics(self) -> dict:
        return json.loads((self.path / "metrics/metrics.json").read_text(encoding="utf-8"))


def environment(*first: Path) -> dict[str, str]:
    """That of a program in a clone, which finds others in these folders, then in this one's."""
    kept = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    programs = [*map(str, first), str(Path(sys.executable).parent), os.environ["PATH"]]
    return kept | {
        "PATH": os.pathsep.join(programs),
        "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@example.invalid",
        "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@example.invalid",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def reproduced_clone(factory: pytest.TempPathFactory, tiny) -> Clone:
    """A copy, to be changed at will, of a clone that is made once a session.

    `dvc repro` has run in it, and its result has been committed. What that has printed is `output`.
    """

    def make(folder: Path) -> None:
        (folder / "clone").mkdir()
        clone = Clone(folder / "clone").make(tiny)
        (folder / "output").write_text(clone.dvc("repro"), encoding="utf-8")
        clone.commit("Result")

    made = once(factory, "reproduced", make)
    path = factory.mktemp("reproduced") / "clone"
    clone = Clone(shutil.copytree(made / "clone", path, symlinks=True))
    clone.output = (made / "output").read_text(encoding="utf-8")
    return clone
