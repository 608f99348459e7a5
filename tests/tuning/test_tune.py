"""Tuning as its user runs it: in a clone in which the pipeline has ended, with tiny backbones."""

import json
import math
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest

from stages import tune
from stages.config.params import load
from stages.pages.tuning import write_tuning
from stages.training import trainer
from stages.training.gates.gate import Gate, GateFailed
from stages.tuning import study
from stages.tuning.experiment import command
from stages.tuning.task import read_tasks
from tests.support.trained import Trained

TRIALS = 3
GIVEN = ("-S", "tune.startup=1", "--trials", str(TRIALS))


@pytest.fixture(scope="module")
def clone(tmp_path_factory, tiny) -> Trained:
    """A clone in which a fifth of the votes was reserved, and the pipeline has ended."""
    clone = Trained(tmp_path_factory.mktemp("clone")).make(tiny, tuning=0.2)
    clone.set_params(train={"save_steps": 1})
    return clone


class Losses:
    """Stands for the inner loss at each quarter: every trial's is worse than that before it.

    What a tiny model learns is no matter then. It breaks off a training at its n-th loss, once.
    """

    def __init__(self, killed_at: int | None = None) -> None:
        self.asked, self.killed_at = 0, killed_at

    def __call__(self, *_: object) -> float:
        self.asked += 1
        if self.asked == self.killed_at:
            raise KeyboardInterrupt
        return 1 + self.asked / 100


def run(clone: Trained, losses: Losses, *arguments: str) -> tuple[pd.DataFrame, dict]:
    """Tune llama in the clone; its table and its summary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "log_loss", losses)
        clone.call(tune.main, *GIVEN, *arguments)
    return read(clone, "llama")


def read(clone: Trained, model: str) -> tuple[pd.DataFrame, dict]:
    folder = clone.path / "metrics/tuning"
    summary = json.loads((folder / f"{model}.json").read_text(encoding="utf-8"))
    return pd.read_csv(folder / f"{model}.csv"), summary


@pytest.fixture(scope="module")
def whole(clone) -> tuple[pd.DataFrame, dict]:
    """A study that nobody stopped."""
    return run(clone, Losses())


def test_reserved_votes_are_trained_on_and_in_no_evaluation(clone):
    folds = pd.read_parquet(clone.path / "data/folds/folds.parquet")
    reserved, outer = set(folds.id[folds.fold < 0]), folds[folds.fold >= 0]
    assert 4 <= len(reserved) <= 12
    assert clone.metrics()["n_rows"] == len(outer)
    for fold in (0, 1):
        assert set(clone.predictions(fold).id) == set(outer.id[outer.fold == fold])
        summary = (clone.path / f"metrics/folds/fold-{fold}.json").read_text(encoding="utf-8")
        assert json.loads(summary)["examples"] == len(folds) - (outer.fold == fold).sum()
    evaluated = pd.read_parquet(clone.path / "data/evaluated/out_of_fold.parquet")
    assert not reserved & set(evaluated.id)


def test_a_study_stops_losing_trials_and_records_all(clone, whole):
    history, summary = whole
    assert history.trial.tolist() == list(range(TRIALS))
    assert history.state.tolist() == ["complete"] + ["stopped"] * (TRIALS - 1)
    assert history.epochs_seen.tolist() == [1.0] + [0.5] * (TRIALS - 1)
    assert history.log_loss[1] == 1.05 and math.isnan(history.loc[1, "standard_error"])
    assert history.lr.between(2e-5, 1e-3).all() and history.lr.nunique() > 1
    assert summary["states"] == {"complete": 1, "stopped": TRIALS - 1, "failed": 0}
    assert summary["best"]["trial"] == 0 and summary["best"]["standard_error"] > 0
    assert summary["best"]["log_loss"] == pytest.approx(history.log_loss[0])
    assert summary["budget"]["trials"] == TRIALS and summary["budget"]["epochs_at_most"] == 1
    folds = pd.read_parquet(clone.path / "data/folds/folds.parquet")
    assert summary["inner_votes"]["rows"] == (folds.fold < 0).sum()
    assert summary["inner_votes"]["prior_log_loss"] == pytest.approx(1.09, abs=0.1)
    page = (clone.path / "metrics/tuning/llama.html").read_text(encoding="utf-8")
    assert "class prior" in page and "Log loss by train.lora.r" in page and "<script" not in page
    assert not list((clone.path / ".state/tuning").glob("*/trial-*")), "checkpoints are cleared"
    assert "It has the settings of params.yaml: none of the others is better" in page


def test_the_winner_is_queued_as_an_experiment(clone, whole):
    assert "tuned-llama" in clone.dvc("queue", "status")


def test_a_study_that_has_ended_is_not_repeated(clone, whole, capsys):
    losses = Losses()
    again, summary = run(clone, losses)
    assert losses.asked == 0 and summary == whole[1]
    pd.testing.assert_frame_equal(again, whole[0])
    assert "DVC has been given this winner before" in capsys.readouterr().out
    assert clone.dvc("queue", "status").count("tuned-llama") == 1


@pytest.mark.slow
def test_killed_and_started_again_it_ends_as_if_never_stopped(clone, whole, monkeypatch, capsys):
    monkeypatch.setattr("stages.tuning.tune.start", lambda *_: None)
    monkeypatch.setattr("stages.tuning.tune.write_tuning", lambda *_: None)
    shutil.rmtree(clone.path / ".state/tuning")
    losses = Losses(killed_at=5)  # the second trial, at its second quarter
    with pytest.raises(SystemExit, match="130"):
        run(clone, losses)
    losses.asked, losses.killed_at = 4, None
    history, summary = run(clone, losses)
    assert "going on from step" in capsys.readouterr().out
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), whole[0].drop(columns="seconds"))
    assert summary == whole[1]


# Studies whose trials train nothing


class Interrupted:
    """Breaks off the first training."""

    def __init__(self, train_fold) -> None:
        self.train_fold, self.asked = train_fold, 0

    def __call__(self, *arguments):
        self.asked += 1
        if self.asked == 1:
            raise KeyboardInterrupt
        return self.train_fold(*arguments)


@pytest.fixture
def fake(clone, monkeypatch) -> list:
    """Predictions of trials that train nothing, each better than that before it.

    Gives what the trials were trained with, and DVC was given.
    """
    shutil.rmtree(clone.path / ".state/tuning", ignore_errors=True)
    seen: list = []

    def train_fold(weights, training, held_out, params, folder, callbacks):
        seen.append(params)
        if params.train.lora.r == 32 or params.train.optimizer.weight_decay == 0.5:
            raise GateFailed([Gate("training_loss", False, "nan", "a finite loss")])
        logits = held_out[["target_a", "target_b", "target_tie"]] * len(seen)
        names = [f"{order}_{label}" for order in ("ab", "ba") for label in ("a", "b", "tie")]
        found = pd.concat([logits, logits], axis=1).set_axis(names, axis=1)
        callbacks[0].seen = 1.0
        return SimpleNamespace(predictions=found.assign(id=held_out.id))

    monkeypatch.setattr(study, "train_fold", train_fold)
    monkeypatch.setattr("stages.tuning.tune.start", lambda words, *_: seen.append(words))
    monkeypatch.setattr("stages.tuning.tune.write_tuning", lambda *_: None)
    return seen


def test_a_trial_that_fails_a_gate_is_recorded_and_the_study_goes_on(clone, fake):
    clone.call(tune.main, "--trials", "6")
    history, summary = read(clone, "llama")
    failed = history["train.lora.r"] == 32
    assert failed.any() and not failed.all()
    assert (history.state == "failed").tolist() == failed.tolist()
    reasons = history.reason[failed]
    assert reasons.eq("training_loss: found nan, expected a finite loss").all()
    assert history.log_loss[failed].isna().all()
    assert summary["best"]["trial"] == history.trial[~failed].max()
    ended = history[~failed]
    near = ended.log_loss <= summary["best"]["log_loss"] + summary["best"]["standard_error"]
    assert summary["others_within_one_standard_error"] == near.sum() - 1


def test_several_backbones_get_one_budget_and_an_experiment_each(clone, fake):
    clone.call(tune.main, "--trials", "3", "--models", "llama,gemma", "--run")
    (one, first), (other, second) = (read(clone, model) for model in ("llama", "gemma"))
    assert first["budget"] == second["budget"] and first["budget"]["trials"] == 3
    shared = ["lr", "head_lr", "train.lora.r"]
    # The first trial has each one's own settings; what is drawn is the same.
    pd.testing.assert_frame_equal(one[shared][1:2], other[shared][1:2])
    given = [words for words in fake if isinstance(words, list)]
    for model, words, summary in zip(("llama", "gemma"), given, (first, second), strict=True):
        assert words[:5] == ["dvc", "exp", "run", "-n", f"tuned-{model}"]
        assert f"model={model}" in words and set(summary["best"]["overrides"]) <= set(words)
        assert not [word for word in words if word.startswith("tune.")]


def settings_of(clone: Trained, model: str) -> list:
    """The tuned settings as params.yaml has them; its scale changes no rate."""
    params = load(clone.path / "params.yaml").model_copy(update={"model": model})
    return [params.adapter_lr, params.head_lr, params.train.lora.r]


def test_the_first_trial_has_the_settings_of_params_yaml(clone, fake, capsys, monkeypatch):
    monkeypatch.setattr(study, "train_fold", interrupted := Interrupted(study.train_fold))
    with pytest.raises(SystemExit, match="130"):
        clone.call(tune.main, "--trials", "4")
    clone.call(tune.main, "--trials", "4")
    assert interrupted.asked == 5
    history, summary = read(clone, "llama")
    first = history.loc[0, ["lr", "head_lr", "train.lora.r"]].tolist()
    assert first == pytest.approx(settings_of(clone, "llama"), rel=1e-2)
    losses = history.log_loss[history.state == "complete"]
    assert summary["present"]["trial"] == 0
    assert summary["present"]["gain_of_best"] == pytest.approx(losses[0] - losses.min(), abs=1e-5)
    assert summary["present"]["standard_error"] == pytest.approx(0, abs=1e-5), "all gain alike"
    assert "Trial 0 has the settings of params.yaml. On the same votes" in capsys.readouterr().out


def test_settings_outside_of_the_ranges_are_not_tried(clone, fake, capsys):
    clone.call(tune.main, "--trials", "2", "-S", "tune.ranges.lr.high=3e-5")
    history, summary = read(clone, "llama")
    assert (history.lr <= 3e-5).all() and summary["present"] is None
    assert "No complete trial has the settings of params.yaml" in capsys.readouterr().out


def test_more_trials_go_on_from_those_there_are(clone, fake):
    clone.call(tune.main, "--trials", "2")
    first, _ = read(clone, "llama")
    clone.call(tune.main, "--trials", "4")
    more, summary = read(clone, "llama")
    pd.testing.assert_frame_equal(more[:2], first, check_dtype=False)
    assert len(more) == 4 and summary["budget"]["trials"] == 4


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("train.optimizer.weight_decay=0.02", False),
        ("tune.ranges.lr.high=1e-2", False),
        ("split.tuning=0.3", False),
        ("train.lora.r=8", True),
        ("tune.trials=50", True),
        ("evaluate.draws=5", True),
    ],
)
def test_a_study_goes_on_under_the_same_votes_folds_ranges_and_params_not_tuned(
    clone, change, same
):
    record = json.loads((clone.path / "models/weights.json").read_text(encoding="utf-8"))
    with clone.inside():
        keys = [study.key(read_tasks([], each)[0], record) for each in ([], [change])]
    assert (keys[0] == keys[1]) == same


def test_without_a_complete_trial_there_is_no_winner(clone, fake, capsys):
    with pytest.raises(SystemExit):
        clone.call(tune.main, "--trials", "2", "-S", "train.optimizer.weight_decay=0.5")
    assert "no trial of llama is complete, so there is no winner" in capsys.readouterr().err
    history, summary = read(clone, "llama")
    assert set(history.state) == {"failed"} and summary["best"] is None


def test_no_trials_are_no_study(clone, fake, capsys):
    with pytest.raises(SystemExit):
        clone.call(tune.main, "--trials", "0")
    assert "tune.trials: Input should be greater than 0, found 0" in capsys.readouterr().err


def test_without_reserved_votes_it_refuses_in_words(clone, capsys):
    with pytest.raises(SystemExit):
        clone.call(tune.main, "-S", "split.tuning=0")
    error = capsys.readouterr().err
    assert error.startswith("error: expected votes that are reserved for tuning, found none")
    assert "-S split.tuning=0.15" in error


def test_the_command_leaves_out_what_no_run_needs():
    words = command("gemma", ["model=gemma", "tune.trials=3", "+tune.x=1", "train.lora.r=8"], True)
    expected = "dvc exp run --queue -n tuned-gemma -S model=gemma -S train.lora.r=8"
    assert " ".join(words) == expected


def test_the_page_is_read_on_a_phone_and_marks_losses_off_the_chart(browser, tmp_path):
    lr = [2e-5, 1e-4, 3e-4, 1e-3]
    losses, states = [1.09, 1.05, 1.06, 9.0], ["complete", "complete", "stopped", "complete"]
    history = pd.DataFrame({"trial": range(4), "state": states, "log_loss": losses, "lr": lr})
    history = history.assign(standard_error=0.02, epochs_seen=1.0, seconds=9.0, reason="")
    summary = {
        "checkpoint": "tiny-llama",
        "scale": "smoke",
        "objective": "classify",
        "inner_votes": {"prior_log_loss": 1.0972},
        "best": {"trial": 1, "log_loss": 1.05, "standard_error": 0.02, "overrides": ["lr=1e-4"]},
        "ranges": {"lr": {"low": 2e-5, "high": 1e-3, "log": True}},
        "pruning": "It is stopped.",
    }
    write_tuning(history, summary, ["The best is <i>trial</i> 1."], tmp_path / "page.html")
    context = browser.new_context(viewport={"width": 360, "height": 780})
    tab = context.new_page()
    tab.goto((tmp_path / "page.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    words = tab.evaluate("[...document.querySelectorAll('svg desc')].map(e => e.textContent)")
    assert any("trial 3: 9.0000, complete" in text for text in words)
    assert tab.evaluate("document.querySelectorAll('i').length") == 0
    context.close()
