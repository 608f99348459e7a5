"""What is tried: the section `tune`, its names, and the votes that judge."""

import copy

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from stages.config.errors import UserError
from stages.config.params import load, validated
from stages.config.paths import BATTLES
from stages.config.tune import Range
from stages.tuning.inner import Inner, inner_split
from stages.tuning.overrides import overridden
from stages.tuning.space import Setting, space, with_values
from tests.support.battles import make_battles
from tests.support.places import REPO

RAW = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))


def spaced(*overrides: str, **ranges: dict) -> dict[str, Setting]:
    """The settings of these ranges, with the shipped params and overrides."""
    raw, params = overridden(overrides)
    wanted = {name: Range.model_validate(given) for name, given in ranges.items()}
    return space(raw, params, wanted)


@pytest.fixture(autouse=True)
def in_a_copy(tmp_path, monkeypatch):
    """Work beside a copy of the shipped params.yaml."""
    (tmp_path / "params.yaml").write_bytes((REPO / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("objective", ["classify", "sft", "reward"])
@pytest.mark.parametrize("model", RAW["backbones"])
def test_the_shipped_ranges_suit_every_backbone_and_objective(model, objective):
    raw = RAW | {"model": model, "train": RAW["train"] | {"objective": objective}}
    params = validated(raw, "params.yaml")
    settings = space(raw, params, params.tune.ranges)
    values = {name: setting.ends[-1] for name, setting in settings.items()}
    changed = validated(with_values(raw, settings, values), "params.yaml")
    assert changed.adapter_lr == 1e-3 * changed.budget.lr_factor and changed.train.lora.r == 32
    assert ("head_lr" in settings) == (objective != "sft"), "sft has no head of its own"


@pytest.mark.parametrize(
    "overrides",
    [["model=gemma"], ["model=gemma", "train.objective=reward"], ["model=qwen", "scale=full"]],
)
def test_what_is_handed_to_dvc_gives_the_params_of_the_trial(tmp_path, overrides):
    ranges = {
        "lr": {"low": 1e-5, "high": 1e-2, "log": True},
        "head_lr": {"low": 1e-5, "high": 1e-2},
        "epochs": {"low": 1, "high": 4},
        "train.offset": {"choices": [False, True]},
        "train.lora.experts": {"choices": [True, False]},
        "train.optimizer.schedule": {"choices": ["cosine", "linear"]},
    }
    settings = spaced(*overrides, **ranges)
    raw, _ = overridden(overrides)
    values = {"lr": 2.05e-5, "head_lr": 0.001, "epochs": 3, "train.offset": True}
    values |= {"train.lora.experts": True, "train.optimizer.schedule": "linear"}
    tried = validated(with_values(raw, settings, values), "params.yaml")
    told = [settings[name].override(value) for name, value in values.items()]
    apply_overrides(tmp_path / "params.yaml", [*overrides, *told])
    assert load() == tried
    assert tried.adapter_lr == 2.05e-5 * tried.budget.lr_factor and tried.budget.epochs == 3


def test_numbers_are_whole_where_the_setting_is():
    settings = spaced(
        **{
            "epochs": {"low": 1, "high": 4},
            "train.optimizer.max_grad_norm": {"low": 1, "high": 5},
            "train.lora.r": {"choices": [8, 16]},
        }
    )
    kinds = [type(setting.distribution) for setting in settings.values()]
    assert kinds == [IntDistribution, FloatDistribution, CategoricalDistribution]
    rate = spaced(lr={"low": 1e-5, "high": 1e-3})["lr"]
    assert rate.told(0.000123456) == 0.000123 and rate.told(1e-5) == 1e-5


def test_the_present_value_is_that_of_the_setting():
    wanted = {"low": 1e-5, "high": 10.0}
    found = spaced(**{"scales.smoke.lr_factor": wanted, "lr": wanted, "head_lr": wanted})
    _, params = overridden([])
    factor = params.budget.lr_factor
    given = [setting.present for setting in found.values()]
    assert given == [factor, params.adapter_lr / factor, params.checkpoint.head_lr]
    assert all(setting.tries_present for setting in found.values())


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("train.lora.rank", {"low": 1, "high": 2}, "tune.ranges.train.lora.rank: unknown setting"),
        ("train.lora.rr", {"low": 1, "high": 2}, "did you mean 'train.lora.r'?"),
        ("train.seed", {"low": 1, "high": 2}, "tune.ranges.train.seed: unknown setting"),
        ("evaluate.draws", {"low": 1, "high": 2}, "unknown setting"),
        ("scales.smoke.rows", {"low": 10, "high": 20}, "unknown setting"),
        ("epochs", {"low": 0, "high": 2}, "tune.ranges.epochs: 0 is no value of it: scales.smoke"),
        ("epochs", {"low": 1, "high": 2.5}, "tune.ranges.epochs: 2.5 is no value of it"),
        ("train.lora.dropout", {"low": 0, "high": 1}, "train.lora.dropout: 1"),
        ("train.dtype", {"choices": ["auto", "int8"]}, "int8 is no value of it"),
    ],
)
def test_a_range_of_no_setting_or_of_no_value_is_refused(name, wanted, message):
    with pytest.raises(UserError) as error:
        spaced(**{name: wanted})
    assert message in " ".join(str(error.value).split())


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"low": 2, "high": 1}, "needs low and a higher high, or choices"),
        ({"low": 2}, "needs low and a higher high, or choices"),
        ({"low": 0, "high": 1, "log": True}, "with log, low must be above 0, found 0"),
        ({"choices": [1]}, "choices stand alone, and are two or more"),
        ({"choices": [1, 2], "low": 1}, "choices stand alone"),
        ({"low": 1, "hihg": 2}, "tune.ranges.lr.hihg: unknown key; did you mean 'high'?"),
    ],
)
def test_a_range_that_is_none_is_refused_when_params_are_read(wanted, message):
    raw = copy.deepcopy(RAW)
    raw["tune"]["ranges"]["lr"] = wanted
    with pytest.raises(UserError) as error:
        validated(raw, "params.yaml")
    assert message in str(error.value)


@pytest.mark.parametrize("override", ["train.lora.rank=3", "model=gemma,llama", "junk"])
def test_an_override_that_dvc_would_not_take_is_refused(override):
    with pytest.raises(UserError, match=r"expected -S KEY=VALUE .*found " + override):
        overridden([override])


def test_runs_of_older_params_have_no_section(tmp_path):
    raw = {name: section for name, section in RAW.items() if name != "tune"}
    del raw["split"]["tuning"]
    assert validated(raw, "params.yaml").tune is None


# The votes


def test_without_reserved_votes_it_says_what_to_set_and_what_that_costs():
    raw, params = overridden([])
    with pytest.raises(UserError, match=r"-S split\.tuning=0\.15.*15% of the evaluated votes"):
        inner_split(raw, params)


def test_trials_are_judged_on_reserved_votes_alone_whose_prompts_they_do_not_see(tmp_path):
    battles = make_battles()
    others = battles[:6].assign(id=[f"other-{i}" for i in range(6)], training_only=True)
    BATTLES.parent.mkdir(parents=True)
    pd.concat([battles, others], ignore_index=True).to_parquet(BATTLES)
    raw, params = overridden(["split.tuning=0.3"])
    inner = inner_split(raw, params)
    assert set(inner.held_out.fold) == {-1} and not inner.held_out.training_only.any()
    assert len(inner.held_out) == pytest.approx(0.3 * 24, abs=2)
    own = inner.training[~inner.training.training_only]
    assert (own.fold >= 0).all() and len(own) + len(inner.held_out) == 24
    assert not set(inner.training.group) & set(inner.held_out.group)
    assert 0 < inner.training.training_only.sum() < 6


def test_votes_prepared_with_other_params_are_not_taken(tmp_path):
    used = {"params.yaml": {"seed": RAW["seed"], "data": RAW["data"] | {"ties": "drop"}}}
    lock = {"stages": {"prepare": {"params": used}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
    raw, params = overridden(["split.tuning=0.3"])
    with pytest.raises(UserError, match=r"made with another data, as dvc\.lock says"):
        inner_split(raw, params)


def test_the_standard_error_takes_votes_on_one_prompt_together():
    rng = np.random.default_rng(0)
    battles = pd.concat([make_battles()] * 10, ignore_index=True)
    losses = rng.normal(1, 0.3, len(battles))
    alone = Inner(battles, battles.assign(group=range(len(battles))))
    mean, error = alone.mean(losses)
    assert mean == pytest.approx(losses.mean())
    assert error == pytest.approx(losses.std(ddof=1) / np.sqrt(len(losses)))
    twice = Inner(battles, pd.concat([alone.held_out] * 2, ignore_index=True))
    assert twice.mean(np.tile(losses, 2))[1] == pytest.approx(error, rel=0.01)
