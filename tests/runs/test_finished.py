"""Reading runs by name: from real git and DVC with cache and remote, and a real MLflow store."""

import json
import shutil
from pathlib import Path
from typing import Self

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from stages.config.errors import UserError
from stages.config.paths import BATTLES, OUT_OF_FOLD
from stages.runs import finished, store, tracking
from stages.runs.recording import Recording
from stages.scoring import scores
from stages.votes.labels import TARGETS
from tests.support.clones import Clone
from tests.support.runs import write_run
from tests.support.stores import put_store

FOREIGN = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "DVC_EXP_NAME")
CACHED = (str(OUT_OF_FOLD), str(BATTLES), "metrics/folds")
CACHE = Path(".dvc/cache/files")


class Repository(Clone):
    """A repository whose outs, made up with numpy, are in git or in DVC's cache and a remote."""

    def make(self, remote: Path) -> Self:
        self.git("init", "-q", "-b", "main")
        self.dvc("init", "--quiet")
        self.dvc("remote", "add", "--quiet", "--default", "store", str(remote))
        self.track("llama", "tiny-llama")
        self.commit("llama")
        return self

    def track(self, model: str, checkpoint: str) -> None:
        """Let the workspace be the end of a run."""
        write_run(self.path, checkpoint=checkpoint, model=model, seed=len(checkpoint))
        self.dvc("add", "--quiet", *CACHED)

    def md5(self, path: str | Path) -> str:
        tracked = yaml.safe_load((self.path / f"{path}.dvc").read_text(encoding="utf-8"))
        return tracked["outs"][0]["md5"]

    def evict(self, md5: str) -> None:
        """Take a file out of the cache."""
        (self.path / CACHE / "md5" / md5[:2] / md5[2:]).unlink()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Repository:
    """llama on main, of which gemma is an experiment; qwen on a commit after it, with none."""
    remote = tmp_path_factory.mktemp("remote")
    repository = Repository(tmp_path_factory.mktemp("built")).make(remote)
    repository.dvc("push", "--quiet")
    repository.track("gemma", "tiny-gemma-3")
    repository.dvc("exp", "save", "--quiet", "--name", "gemma-tiny")
    repository.git("switch", "-qc", "later")
    repository.track("qwen", "tiny-qwen-25b")
    repository.commit("qwen")
    return repository


@pytest.fixture
def repository(built, tmp_path, monkeypatch) -> Repository:
    """The working folder: a copy that a test may harm."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    copy = Repository(shutil.copytree(built.path, tmp_path / "repository", symlinks=True))
    put_store(copy.path)
    monkeypatch.chdir(copy.path)
    return copy


def test_a_branch_a_commit_and_an_experiment_are_read_as_they_were(repository):
    names = {"main": "tiny-llama", "HEAD": "tiny-qwen-25b", "gemma-tiny": "tiny-gemma-3"}
    for name, checkpoint in names.items():
        result, texts = finished.fetch(name)
        assert result.name == name and result.checkpoint == checkpoint
        assert len(result.rows) == result.metrics["n_rows"] == len(texts) == 240
        assert len(result.curves) == len(result.folds) == 3


def test_reading_a_revision_leaves_the_workspace_as_it_is(repository):
    before = finished.fetch("workspace")[0]
    finished.fetch("main")
    after = finished.fetch("workspace")[0]
    assert before.checkpoint == after.checkpoint == "tiny-qwen-25b"
    pd.testing.assert_frame_equal(before.rows, after.rows)


def test_the_workspace_is_read_as_it_lies_there(repository):
    write_run(repository.path, checkpoint="tiny-edited", skill=0.2)
    assert finished.fetch("workspace")[0].checkpoint == "tiny-edited"
    assert finished.fetch("HEAD")[0].checkpoint == "tiny-qwen-25b"


def test_an_older_run_has_plain_votes_of_weight_one(tmp_path):
    write_run(tmp_path)
    newer = finished.read(tmp_path, "newer")
    older = newer.rows.drop(columns=[*TARGETS, "weight", "source", "language"])
    older.to_parquet(tmp_path / OUT_OF_FOLD)
    found = finished.read(tmp_path, "older")
    assert found.votes.labels.tolist() == newer.rows.label.tolist()
    assert (found.votes.targets == newer.votes.targets).all() and (found.votes.weights == 1).all()
    assert scores.log_loss(found.votes, found.probabilities("backbone")) == pytest.approx(
        newer.metrics["log_loss"]
    )


def test_a_fold_that_was_trained_anew_is_not_taken_for_part_of_the_run(repository):
    path = repository.path / "metrics/folds/fold-0.json"
    fold = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()  # a link to DVC's cache
    path.write_text(json.dumps(fold | {"fingerprint": "another"}), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"workspace: .* found fold 0 trained anew since `evaluate`"
    ):
        finished.fetch("workspace")


def test_params_that_were_edited_since_are_not_taken_for_those_of_the_run(repository):
    path = repository.path / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(params | {"model": "llama"}), encoding="utf-8")
    with pytest.raises(UserError, match=r"train@0 ran with, found backbones\.llama not as in"):
        finished.fetch("workspace")


def test_what_is_not_in_the_cache_is_pulled_from_the_remote(repository):
    expected = finished.fetch("main")[0].rows
    shutil.rmtree(repository.path / CACHE)
    pd.testing.assert_frame_equal(finished.fetch("main")[0].rows, expected)


@pytest.mark.parametrize("path", [OUT_OF_FOLD, Path("metrics/folds")])
def test_results_that_are_nowhere_are_an_error_that_says_what_to_do(repository, path):
    repository.evict(repository.md5(path))  # qwen's were never pushed
    told = f"{path} of .* is recorded there, but neither in DVC's cache .* and name the new commit"
    with pytest.raises(UserError, match=told):
        finished.fetch("HEAD")


def test_a_comparison_does_not_need_the_texts(repository):
    write_run(repository.path, checkpoint="tiny-other", rows=120)
    repository.dvc("add", "--quiet", *CACHED)
    repository.commit("other votes")
    repository.evict(repository.md5(BATTLES))
    result, texts = finished.fetch("HEAD")
    assert result.checkpoint == "tiny-other" and texts is None


def test_an_unknown_name_lists_the_experiments_of_all_commits(repository):
    with pytest.raises(UserError, match=r"gema is neither .* experiments are gemma-tiny"):
        finished.fetch("gema")


def test_a_revision_without_a_run_is_told_apart(repository):
    repository.git("rm", "-q", "metrics/metrics.json")
    repository.commit("no metrics")
    with pytest.raises(UserError, match=r"metrics/metrics.json of .* is not there: .*dvc repro"):
        finished.fetch("HEAD")


def test_outside_of_a_repository_a_name_is_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no DVC repository"):
        finished.fetch("main")


# MLflow


@pytest.fixture
def recorded(repository) -> str:
    """The id of the workspace's run, its artifacts laid out as stages.publish does."""
    curves = pd.DataFrame({"step": [1], "training_loss": [1.0]})
    fold = Path("metrics/folds")
    children = [
        Recording(
            name=f"fold {k}",
            fingerprint=f"fold-{k}",
            tags={},
            params={},
            metrics={},
            curves=curves,
            files=dict.fromkeys([fold / f"fold-{k}.json", fold / f"fold-{k}.csv"], "metrics"),
            votes=("votes", "md5"),
        )
        for k in range(3)
    ]
    run = Recording(
        name="run",
        fingerprint="run",
        tags={},
        params={},
        metrics={},
        curves=curves,
        files={
            **dict.fromkeys([Path("params.yaml"), Path("dvc.lock")], ""),
            **dict.fromkeys(sorted(Path("metrics").glob("*.json")), "metrics"),
            OUT_OF_FOLD: "predictions",
        },
        votes=("votes", "md5"),
        children=children,
    )
    assert tracking.record(run)
    client = MlflowClient(store.uri())
    experiment = client.get_experiment_by_name(store.EXPERIMENT).experiment_id
    (parent,) = client.search_runs([experiment], "tags.fingerprint = 'run'")
    return parent.info.run_id


@pytest.mark.parametrize("prefix", ["", "runs:/"])
def test_a_run_is_read_from_mlflow_as_it_was_recorded(repository, recorded, prefix):
    expected, _ = finished.fetch("workspace")
    result, texts = finished.fetch(prefix + recorded)
    assert texts is None and result.name == prefix + recorded
    assert result.metrics == expected.metrics and result.params == expected.params
    assert result.folds == expected.folds and result.raw_votes == expected.raw_votes
    pd.testing.assert_frame_equal(result.rows, expected.rows)
    for curve, same in zip(result.curves, expected.curves, strict=True):
        pd.testing.assert_frame_equal(curve, same)


def test_an_unknown_run_and_a_fold_are_told_apart_from_pipeline_runs(repository, recorded):
    client = MlflowClient(store.uri())
    experiment = client.get_experiment_by_name(store.EXPERIMENT).experiment_id
    (fold,) = client.search_runs([experiment], "tags.fingerprint = 'fold-0'")
    for name in ("0" * 32, fold.info.run_id):
        with pytest.raises(UserError, match="id of a pipeline's parent run"):
            finished.fetch(name)
