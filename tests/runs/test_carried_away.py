"""A repository that was copied, whose original is gone, and in which nothing can be written.

Nothing but this machine can be reached, and HF_HUB_OFFLINE is not set.
"""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from tests.support.places import REPO
from tests.support.trained import FOREIGN, trained_clone

# Root may write everywhere, unless it has no capabilities.
POWERLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


class Copy:
    """The copy, and a folder beside it in which its user can write."""

    def __init__(self, path: Path, run: str) -> None:
        self.path, self.mine, self.run_id = path, path.parent, run

    def start(self, *command: str) -> subprocess.Popen:
        foreign = (*FOREIGN, "HF_HUB_OFFLINE")
        environment = {k: v for k, v in os.environ.items() if k not in foreign} | {
            "PYTHONPATH": str(REPO / "tests/support/blocked"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NETWORK_LOG": str(self.mine / "network.log"),
        }
        return subprocess.Popen(
            [*POWERLESS, *command],
            cwd=self.path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, stage: str, *arguments: str, succeeds: bool = True) -> str:
        """Run a command of ours; gives what it prints."""
        process = self.start(sys.executable, "-m", f"stages.{stage}", *arguments)
        output, _ = process.communicate(timeout=300)
        assert (process.returncode == 0) == succeeds, output
        assert "Traceback" not in output
        return output

    def asked(self) -> str:
        log = self.mine / "network.log"
        return log.read_text(encoding="utf-8") if log.exists() else ""


@pytest.fixture(scope="module")
def copy(tmp_path_factory, tiny) -> Iterator[Copy]:
    original = trained_clone(tmp_path_factory, tiny)
    original.publish("--register", "preference@champion")
    client = MlflowClient(f"sqlite:///{original.path}/mlflow.db")
    (run,) = client.search_runs(["1"], "tags.`dvc.stage` = 'publish'")
    path = shutil.copytree(original.path, tmp_path_factory.mktemp("mine") / "copy", symlinks=True)
    original.path.rename(original.path.with_name("gone"))
    copy = Copy(path, run.info.run_id)
    set_writable(path, False)
    try:
        if shutil.which("setpriv") is None and POWERLESS:
            pytest.skip("root writes everywhere, and setpriv is not there to take that from it")
        if copy.start("touch", "written").wait(60) == 0:
            pytest.skip("this user can write what is read-only")
        yield copy
    finally:
        set_writable(path, True)
    assert copy.asked() == ""


def set_writable(folder: Path, writable: bool) -> None:
    subprocess.run(["chmod", "-R", "u+w" if writable else "a-w", folder], check=True)


@pytest.mark.parametrize(
    "model",
    [
        [],
        pytest.param(["--model", "models:/preference@champion"], marks=pytest.mark.slow),
        pytest.param(["--model", "runs:/{run}/model"], marks=pytest.mark.slow),
    ],
    ids=["workspace", "registry", "run"],
)
def test_predict_writes_nothing_but_its_output(copy, model):
    output = copy.mine / "out/submission.csv"
    given = ["--input", "data/raw/starter.csv", "--output", str(output)]
    copy.run("predict", *given, *(word.format(run=copy.run_id) for word in model))
    assert len(pd.read_csv(output)) == len(pd.read_csv(copy.path / "data/raw/starter.csv"))
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "submission.csv",
        "submission.parquet",
        "submission.unreadable.csv",
    ]
    shutil.rmtree(output.parent)


@pytest.mark.slow
def test_compare_reads_a_revision_and_a_recorded_run(copy):
    output = copy.mine / "comparison.json"
    copy.run("compare", copy.run_id, "HEAD", "--output", str(output))
    assert output.exists() and output.with_suffix(".html").exists()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            ["predict", "--input", "data/raw/starter.csv", "--output", "submission.csv"],
            marks=pytest.mark.slow,
        ),
        ["compare", "HEAD", "workspace"],
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(copy, command):
    printed = copy.run(*command, succeeds=False)
    assert printed.startswith("error: --output: expected a place that can be written")


@pytest.mark.slow
def test_the_demo_answers(copy):
    process = copy.start(sys.executable, "-m", "stages.demo", "--port", "0")
    try:
        said = next(line for line in process.stdout if "http://" in line)
        (address,) = re.findall(r"http://[\d.:]+", said)
        assert b"<html" in urllib.request.urlopen(address, timeout=60).read()
    finally:
        process.terminate()
        process.wait(60)


def test_publish_says_that_it_cannot_write(copy):
    printed = copy.run("publish", succeeds=False)
    assert "did not take the run" in printed and "Permission denied" in printed
