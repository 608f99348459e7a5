"""One adapter in place of one a fold: what it is made of, and that predictions take it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftConfig
from safetensors.torch import load_file, save_file

from stages import evaluate, predict, refit
from stages.config.params import load
from stages.config.paths import REFIT
from stages.counting.offset import load as load_offset
from stages.deployment.on_all_votes import lessons_of_all_folds
from stages.runs.ensemble import Ensemble
from stages.training.trainer import PackedTrainer
from stages.votes.rows import TURNS, WINNERS
from tests.support.trained import FOLDS, Trained, planted_weights, trained_clone

pytestmark = pytest.mark.rounding


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny) -> Trained:
    return trained_clone(tmp_path_factory, tiny)


@pytest.fixture
def trained(whole, tmp_path) -> Trained:
    """A copy, for a test to change."""
    copied = whole.copied(tmp_path / "clone")
    shutil.rmtree(copied.path / REFIT, ignore_errors=True)
    return copied


def adapter_file(trained: Trained, fold: int) -> Path:
    return trained.path / f"models/fold-{fold}/adapter_model.safetensors"


def bring_together(trained: Trained) -> None:
    """Let the second fold's adapter be the first's, moved a little."""
    generator = torch.Generator().manual_seed(0)
    near = {
        name: tensor * (1 + 0.01 * torch.randn(tensor.shape, generator=generator))
        for name, tensor in load_file(adapter_file(trained, 0)).items()
    }
    adapter_file(trained, 1).unlink()  # a link into DVC's cache, maybe
    save_file(near, adapter_file(trained, 1), metadata={"format": "pt"})


def test_the_mean_of_folds_that_are_near_predicts_as_they_do(trained, capsys):
    bring_together(trained)
    trained.call(refit.main, "--how", "average")
    said = capsys.readouterr().out
    assert "Nothing estimates its log loss" in said
    battles = trained.battles()
    with trained.inside():
        folds, mean = Ensemble(Path()), Ensemble(REFIT)
        logits, _ = folds.logits(battles)
        found, _ = mean.logits(battles)
        probabilities = mean.predict(battles).averaged, folds.predict(battles).averaged
    assert len(mean) == 1
    off = np.abs(found[0] - logits.mean(axis=0)).mean()
    assert off < 0.2 * np.abs(logits[0] - logits[1]).mean(), "nearer than the folds are"
    assert np.abs(probabilities[0] - probabilities[1]).mean() < 0.02
    facts = json.loads((trained.path / REFIT / "refit.json").read_text())
    assert 0.99 < facts["kept_by_the_cut"] < 1
    assert facts["mean_distance"] < 0.02


def test_an_offset_is_averaged_with_the_adapters(trained):
    trained.set_params(train={"objective": "sft", "offset": True})
    trained.train()
    trained.call(evaluate.main)
    trained.dvc("commit", "--force", "train", "evaluate")
    trained.call(refit.main, "--how", "average")
    folds = [load_offset(trained.path / f"models/fold-{fold}/offset.json") for fold in FOLDS]
    mean = load_offset(trained.path / REFIT / "offset.json")
    expected = (folds[0].weights + folds[1].weights) / 2
    pd.testing.assert_frame_equal(mean.weights, expected)
    with trained.inside():
        assert np.isfinite(Ensemble(REFIT).predict(trained.battles()).final).all()


@pytest.fixture(scope="module")
def refitted(whole) -> Trained:
    """A clone whose refitted model was trained, on what stands in `trained_on`."""
    trained_on, train = [], PackedTrainer.train

    def watched(trainer: PackedTrainer, *arguments: object, **named: object) -> None:
        trained_on.extend(trainer.examples.ids)
        train(trainer, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackedTrainer, "train", watched)
        with planted_weights(seed=7):
            whole.call(refit.main)
    whole.trained_on = trained_on
    return whole


def test_every_vote_is_trained_on_by_the_runs_settings(refitted):
    folds = pd.read_parquet(refitted.path / "data/folds/folds.parquet")
    assert sorted(refitted.trained_on) == sorted(folds.id)
    facts = json.loads((refitted.path / REFIT / "refit.json").read_text())
    assert facts["how"] == "train" and facts["examples"] == len(folds)
    assert "the folds', out of fold, and not this adapter's own" in facts["metrics"]
    assert {gate["name"] for gate in facts["gates"]} >= {"held_out", "adapter_moved"}
    one, fold = (PeftConfig.from_pretrained(refitted.path / p) for p in (REFIT, "models/fold-0"))
    assert (one.r, one.target_modules) == (fold.r, fold.target_modules)
    assert not list(refitted.path.glob(".state/checkpoints/*/")), "checkpoints are cleared"


def test_predict_takes_it_with_the_runs_calibration_whatever_the_workspace_holds(
    refitted, tmp_path, capsys
):
    battles = refitted.battles().head(6)
    battles[["id", *TURNS]].to_parquet(tmp_path / "test.parquet")
    given = ["--input", str(tmp_path / "test.parquet"), "--output", str(tmp_path / "s.csv")]
    params = (refitted.path / "params.yaml").read_text()
    refitted.set_params(model="gemma")
    try:
        refitted.call(predict.main, *given, "--model", str(REFIT))
    finally:
        (refitted.path / "params.yaml").write_text(params)
    assert "6 rows predicted by llama, one model" in capsys.readouterr().out
    with refitted.inside():
        one, folds = Ensemble(REFIT), Ensemble(Path())
        assert one.calibration == folds.calibration
        expected = one.predict(battles).final
        assert np.abs(expected - folds.predict(battles).final).max() > 1e-2
    found = pd.read_csv(tmp_path / "s.csv")[list(WINNERS)].to_numpy()
    assert np.abs(found - expected).max() < 1e-5


def test_dvc_and_git_see_no_change(trained):
    trained.dvc("commit", "--force", "publish")
    (trained.path / REFIT).mkdir()
    (trained.path / REFIT / "refit.json").write_text("{}")
    assert "up to date" in trained.dvc("status", "publish")
    assert str(REFIT) not in trained.run("git", "status", "--short", "--untracked-files=all")


def test_a_run_that_has_not_ended_is_refused(trained, capsys):
    adapter_file(trained, 1).unlink()
    with pytest.raises(SystemExit) as ended:
        trained.call(refit.main)
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert "only a pipeline that has ended can be refitted" in error
    assert not (trained.path / REFIT).exists()


def test_a_model_that_is_not_there_says_what_makes_it(trained, tmp_path, capsys):
    trained.battles()[["id", *TURNS]].to_parquet(tmp_path / "test.parquet")
    given = ["--input", str(tmp_path / "test.parquet"), "--output", str(tmp_path / "s.csv")]
    with pytest.raises(SystemExit):
        trained.call(predict.main, *given, "--model", "models/refit")
    assert "run that first" in capsys.readouterr().err


def test_teachers_of_all_folds_speak_with_their_mean(trained):
    """Each fold's teacher is silent on what that fold holds out."""
    said = {0: {"x": 0.2, "both": 0.4}, 1: {"y": 0.6, "both": 0.8}}
    for fold, of_ids in said.items():
        rows = [{"id": i, "teacher_a": p, "teacher_b": 1 - p, "teacher_tie": 0.0, "prompt": None}
                for i, p in of_ids.items()]  # fmt: skip
        pd.DataFrame(rows).to_parquet(trained.path / f"data/teacher/fold-{fold}.parquet")
    with trained.inside():
        found = lessons_of_all_folds(load()).set_index("id").teacher_a
    assert found.to_dict() == pytest.approx({"x": 0.2, "y": 0.6, "both": 0.6})
