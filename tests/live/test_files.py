"""What DVC makes of the files that DVCLive writes while a fold trains."""

import json
import shutil

import pytest
import yaml

from tests.support.clones import Clone
from tests.support.places import REPO
from tests.support.stores import put_store

# A stage that tells two losses, and ends when they have been sent on.
STAGE = """
import subprocess, sys, time
from pathlib import Path
from stages.training import progress
facts = {"fold": 0, "fingerprint": "f" * 64, "model": "llama", "scale": "smoke", "params": {},
         "checkpoint": {"checkpoint": "SmolLM2", "revision": "b179c952"}}
points = [{"step": step, "time": 1.0, "training_loss": loss} for step, loss in ((5, 1.25), (10, 1))]
Path(".state").mkdir()
progress.write(Path(".state/told.jsonl"), [facts, *points])
command = [sys.executable, "-m", "stages.follow", ".state/told.jsonl", "--every", "0.1"]
follower = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
while not Path("dvclive/fold-0/metrics.json").exists():
    time.sleep(0.1)
follower.communicate("FINISHED")
"""
LIVE = "dvclive/fold-0/plots/metrics/training_loss.tsv"


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    """A repository with this one's live plots, ignored files and that stage; an experiment ran."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    for name in (".gitignore", ".dvcignore", "dvclive/README.md", "params.yaml"):
        (clone.path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPO / name, clone.path / name)
    plots = yaml.safe_load((REPO / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    stage = {"cmd": f"PYTHONPATH={REPO} python -m stage", "params": ["seed"]}
    pipeline = {"stages": {"train": stage}, "plots": [p for p in plots if "dvclive" in p]}
    (clone.path / "dvc.yaml").write_text(yaml.safe_dump(pipeline), encoding="utf-8")
    (clone.path / "stage.py").write_text(STAGE, encoding="utf-8")
    put_store(clone.path)
    clone.git("init", "-q", "-b", "main")
    clone.dvc("init", "-q")
    clone.commit("start")
    clone.output = clone.dvc("exp", "run", "--name", "one", "-S", "seed=1")
    return clone


def test_an_experiment_takes_none_of_the_live_files(clone: Clone) -> None:
    assert "warning" not in clone.output.lower(), clone.output
    assert (clone.path / LIVE).read_text() == "step\ttraining_loss\n5\t1.25\n10\t1\n"
    assert not (clone.path / "dvclive/dvc.yaml").exists()
    changed = clone.run("git", "status", "--porcelain").split()
    assert [name for name in changed if len(name) > 2] == ["params.yaml", "dvc.lock"]
    (revision, *_) = clone.dvc("exp", "list", "--sha-only").split()
    kept = clone.run("git", "ls-tree", "-r", "--name-only", revision, "dvclive")
    assert kept.split() == ["dvclive/README.md"]


def test_live_plots_are_drawn_of_the_workspace_and_spoil_no_others(clone: Clone) -> None:
    shown = json.loads(clone.dvc("plots", "diff", "HEAD", "one", "workspace", "--json"))
    assert "errors" not in shown
    assert list(shown["data"]) == [LIVE]
    (plot,) = shown["data"][LIVE]
    drawn = [(each["rev"], each["step"]) for each in plot["content"]["data"]["values"]]
    assert drawn == [("workspace", "5"), ("workspace", "10")]
