"""A run of some of its folds, with real DVC in a temporary clone and a tiny backbone."""

import json

import pandas as pd
import pytest

from tests.support.clones import Clone

pytestmark = pytest.mark.slow  # test_settle.py trains some of the folds, too

OF = ("-S", "split.of=4")


@pytest.fixture(scope="module")
def clone(tmp_path_factory, tiny) -> Clone:
    """A clone in which three of four folds were trained, as the experiment `three`."""
    clone = Clone(tmp_path_factory.mktemp("clone")).make(tiny).drop("report", "publish")
    clone.dvc("exp", "run", "-n", "three", "-S", "split.folds=[0,1,2]", *OF)
    return clone


def folds(clone: Clone) -> pd.DataFrame:
    return pd.read_parquet(clone.path / "data/folds/folds.parquet")


def locked(clone: Clone, stage: str) -> dict:
    return json.loads(clone.run("python", "-c", LOCKED, stage))


LOCKED = """
import json, sys
from pathlib import Path
from stages.runs.lock import read_lock
print(json.dumps(read_lock(Path())[sys.argv[1]]))
"""


def test_votes_are_dealt_into_all_folds_and_judged_in_those_that_are_trained(clone):
    dealt = folds(clone)
    assert set(dealt.fold) == {0, 1, 2, 3}
    trained = set(dealt.id[dealt.fold < 3])
    for table in ("evaluated/out_of_fold", "baselines/predictions"):
        assert set(pd.read_parquet(clone.path / f"data/{table}.parquet").id) == trained
    metrics = clone.metrics()
    assert metrics["n_rows"] == len(trained)
    assert set(metrics["folds"]) == {"fold_0", "fold_1", "fold_2"}
    for fold in range(3):
        summary = (clone.path / f"metrics/folds/fold-{fold}.json").read_text(encoding="utf-8")
        assert json.loads(summary)["examples"] == len(dealt) - (dealt.fold == fold).sum()
    clone.run("python", "-m", "stages.report")
    page = (clone.path / "metrics/report.html").read_text(encoding="utf-8")
    assert f"{len(trained)} votes in 3 of 4 folds" in page


def test_more_and_fewer_folds_restore_those_that_were_trained(clone):
    before, dealt = {fold: locked(clone, f"train@{fold}") for fold in (0, 1)}, folds(clone)
    output = clone.dvc("exp", "run", "-n", "two", "-S", "split.folds=[0,1]", *OF)
    assert "Running stage 'train" not in output
    assert {fold: locked(clone, f"train@{fold}") for fold in (0, 1)} == before
    assert clone.metrics()["n_rows"] == (dealt.fold < 2).sum()
    output = clone.dvc("exp", "run", "-n", "four", "-S", "split.folds=[0,1,2,3]", *OF)
    trained = [fold for fold in range(4) if f"Running stage 'train@{fold}'" in output]
    assert trained == [3]
    assert clone.metrics()["n_rows"] == len(dealt)
    pd.testing.assert_frame_equal(folds(clone), dealt)


def test_runs_of_different_folds_are_not_compared(clone):
    printed = clone.run("python", "-m", "stages.compare", "three", "four")
    assert "the folds evaluated differ: 3 of 4 in three; 4 in four" in printed


def test_the_model_of_some_folds_is_their_mean(clone):
    votes = pd.read_csv(clone.path / "data/raw/starter.csv", dtype=str).head(3)
    votes.to_csv(clone.path / "few.csv", index=False)
    few = ("--input", "few.csv", "--output", "out.csv")
    printed = clone.run("python", "-m", "stages.predict", "--experiment", "three", *few)
    assert "3 folds" in printed and len(pd.read_csv(clone.path / "out.csv")) == 3
