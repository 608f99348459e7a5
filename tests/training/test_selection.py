"""The best epoch is found by an inner split of the training votes, and by nothing else."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from stages.config.errors import UserError
from stages.config.params import Params
from stages.training import selection
from stages.training.fold import Trained, train_fold
from stages.training.soft_targets import VOTES
from stages.training.trainer import PackedTrainer
from stages.votes.labels import TARGETS
from tests.support.battles import make_battles
from tests.support.votes import with_votes


def best(params: Params, epochs: int = 3, **train: object) -> Params:
    """The params with the best of so many epochs to be kept, and a fifth of the votes for that."""
    asked = {"select": "best", "inner": 0.2, **train}
    budget = params.budget.model_copy(update={"epochs": epochs})
    return params.model_copy(
        update={
            "train": params.train.model_copy(update=asked),
            "scales": params.scales | {params.scale: budget},
        }
    )


def frames(battles: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two thirds to train on, and a third that is held out."""
    folded = battles.assign(group=battles.id, fold=np.arange(len(battles)) // 2 % 3)
    return folded[folded.fold != 0], folded[folded.fold == 0]


@pytest.fixture
def losses(monkeypatch) -> list[float]:
    """Inner losses that an epoch each is said to have, whatever a tiny training learns."""
    said = [0.9, 0.7, 0.8]

    def select(trainer: PackedTrainer, chosen: selection.Selection) -> float:
        loss = said[trainer.state.global_step // trainer.steps_per_epoch - 1]
        if loss < min(selection.inner_losses(trainer.state.log_history).values(), default=1):
            chosen.keep(trainer.state.global_step, trainer.model)
        return loss

    monkeypatch.setattr(PackedTrainer, "_select", select)
    return said


def weights(trained: Trained) -> dict[str, np.ndarray]:
    named = trained.model.named_parameters()
    return {name: p.detach().numpy().copy() for name, p in named if p.requires_grad}


@pytest.mark.parametrize("way", ["fast", pytest.param("plain", marks=pytest.mark.slow)])
def test_the_adapter_of_the_best_epoch_is_kept_and_predicts(tiny, params, tmp_path, losses, way):
    training, held_out = frames(make_battles())
    trained = train_fold(tiny(), training, held_out, best(params, way=way), tmp_path)
    kept = trained.summary["kept"]
    assert (kept["epoch"], kept["inner_losses"]) == (2, losses)
    assert kept["votes"] == 3 and trained.summary["examples"] == len(training) - 3
    measured = trained.curves.dropna(subset="validation_loss")
    assert measured.inner_loss.tolist() == losses
    files = sorted(tmp_path.glob("best-*.safetensors"), key=lambda file: file.stat().st_mtime)
    assert len(files) == 2, "of each epoch that was the best so far"
    for name, value in load_file(files[-1]).items():
        assert (weights(trained)[name] == value.numpy()).all()
    # The second epoch's validation loss is that of the predictions.
    logits = trained.predictions[[f"ab_{label}" for label in ("a", "b", "tie")]].to_numpy()
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss = -(logs * held_out[list(TARGETS)].to_numpy()).sum(axis=1).mean()
    assert measured.validation_loss.tolist()[1] == pytest.approx(loss, abs=1e-6)


def test_what_is_held_out_plays_no_part_in_the_choice(tiny, params, tmp_path):
    training, held_out = frames(make_battles())
    turned = with_votes(held_out, (held_out.label.to_numpy() + 1) % 3)
    found = [
        train_fold(tiny(), training, other, best(params), tmp_path / str(place))
        for place, other in enumerate([held_out, turned])
    ]
    assert found[0].summary["kept"] == found[1].summary["kept"]
    for name, value in weights(found[0]).items():
        assert (value == weights(found[1])[name]).all()
    assert (found[0].curves.validation_loss != found[1].curves.validation_loss).any()


@pytest.mark.slow
def test_stopped_and_started_again_it_keeps_the_same_epoch(
    tiny, params, tmp_path, monkeypatch, capsys
):
    training, held_out = frames(make_battles())
    asked = best(params)
    whole = train_fold(tiny(), training, held_out, asked, tmp_path / "whole")
    step = PackedTrainer.training_step

    def stop(trainer: PackedTrainer, *arguments: object) -> torch.Tensor:
        if trainer.state.global_step == 5:  # past the first epoch and the checkpoint of step 4
            raise KeyboardInterrupt
        return step(trainer, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PackedTrainer, "training_step", stop)
        train_fold(tiny(), training, held_out, asked, tmp_path / "stopped")
    again = train_fold(tiny(), training, held_out, asked, tmp_path / "stopped")
    assert "going on from step 4" in capsys.readouterr().out
    assert again.summary["kept"] == whole.summary["kept"]
    pd.testing.assert_frame_equal(again.predictions, whole.predictions)
    pd.testing.assert_frame_equal(again.curves, whole.curves)


# The inner split


def test_whole_groups_of_the_folds_own_votes_are_held_back_with_what_shares_them(params):
    training, _ = frames(pd.concat([make_battles()] * 2, ignore_index=True))
    training = training.assign(group=[f"group {i // 2}" for i in range(len(training))])
    training.loc[training.index[1::4], "fold"] = -1
    rest, inner = selection.split(training, best(params))
    again, _ = selection.split(training, best(params))
    other, _ = selection.split(training, best(params, seed=1))
    assert again.index.equals(rest.index) and not other.index.equals(rest.index)
    assert (inner.fold >= 0).all() and 0 < len(inner) <= 0.2 * (training.fold >= 0).sum()
    assert not set(inner.group) & set(rest.group)
    left_out = training.drop(rest.index).drop(inner.index)
    assert (left_out.fold == -1).all() and left_out.group.isin(inner.group).all()


def test_the_epoch_is_chosen_by_votes_alone(params):
    training, _ = frames(make_battles())
    votes = training[list(TARGETS)].to_numpy()
    taught = training.assign(
        **dict(zip(VOTES, votes.T, strict=True)), **dict.fromkeys(TARGETS, 1 / 3)
    )
    rest, inner = selection.split(taught, best(params))
    assert (rest[list(TARGETS)] == 1 / 3).all(axis=None)
    assert inner[list(TARGETS)].equals(training.loc[inner.index, list(TARGETS)])


def test_one_epoch_is_the_best_and_nothing_is_held_back(params, capsys):
    training, _ = frames(make_battles())
    rest, inner = selection.split(training, best(params, epochs=1))
    assert inner is None and rest is training
    assert "there is one epoch, the last: all votes are trained on" in capsys.readouterr().out
    rest, inner = selection.split(training, best(params, select="last"))
    assert inner is None and rest is training and not capsys.readouterr().out


@pytest.mark.parametrize("inner", [0.01, 0.5])
def test_a_split_that_would_be_empty_is_refused(params, inner):
    training, _ = frames(make_battles())
    if inner == 0.5:
        training = training.assign(group="one")
    with pytest.raises(UserError, match=r"found none: set train\.inner to another share"):
        selection.split(training, best(params, inner=inner))
