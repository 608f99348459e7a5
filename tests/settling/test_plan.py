"""Which trainings a look needs, what it leaves to do, and how it is told: with made-up runs."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest

from stages import settle
from stages.config.errors import UserError
from stages.config.paths import SETTLED
from stages.runs import finished
from stages.settling import settle as settling
from stages.settling.experiments import name_of
from stages.settling.plan import Plan, Step, read_plan, steps
from stages.settling.standing import Standing, standing
from tests.support.places import REPO
from tests.support.runs import write_run

FIVE = ["split.folds=[0,1,2,3,4]"]


# The plan


def test_folds_of_the_first_seed_come_first_then_whole_seeds():
    first = [Step(7, 3, 3), Step(7, 4, 1), Step(7, 5, 1)]
    assert steps([7, 8, 9], 5) == [*first, Step(8, 5, 5), Step(9, 5, 5)]


def test_a_look_has_the_last_run_of_each_seed():
    plan = Plan(["a", "b"], [], steps([7, 8], 4), 4)
    assert plan.runs(1) == [Step(7, 3, 3)]
    assert plan.runs(3) == [Step(7, 4, 1), Step(8, 4, 4)]


def test_the_plan_is_read_from_params_and_overrides(monkeypatch):
    monkeypatch.chdir(REPO)
    plan = read_plan(["llama", "gemma"], [1, 2], [*FIVE, "split.of=6", "train.lora.r=4"])
    assert plan.dealt == 6 and len(plan.steps) == 4
    given = plan.of_step("gemma", plan.steps[1])
    folds = ["split.folds=[0,1,2,3]", "split.of=6"]
    assert given == ["train.lora.r=4", "model=gemma", "train.seed=1", *folds]
    assert name_of("gemma", plan.steps[1]) == "settle-gemma-seed-1-folds-4"


@pytest.mark.parametrize(
    ("models", "overrides", "message"),
    [
        (["llama"], FIVE, "--models: expected two or more, found llama"),
        (["llama", "gemma"], [], "expected 3 folds or more to look at, found 2 in split.folds"),
        (["llama", "gemma"], [*FIVE, "model=qwen"], "expected --models in place of -S model="),
        (["llama", "gemma"], [*FIVE, "train.seed=1"], "expected --seeds in place of -S"),
        (["llama", "lama"], FIVE, "model: 'lama' is not known; did you mean 'llama'"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(monkeypatch, models, overrides, message):
    monkeypatch.chdir(REPO)
    with pytest.raises(UserError) as error:
        read_plan(models, [], overrides)
    assert message in str(error.value)


@pytest.mark.parametrize("given", ["1,1", "", "1,x"])
def test_seeds_are_different_numbers(monkeypatch, capsys, given):
    monkeypatch.setattr("sys.argv", ["settle", "--models", "llama,gemma", "--seeds", given])
    with pytest.raises(SystemExit):
        settle.main()
    assert "expected different numbers such as 1,2,3" in capsys.readouterr().err


# What a look leaves to do


def pair(a: str, b: str, verdict: str, difference: float = -0.1) -> dict:
    return {"a": a, "b": b, "verdict": verdict, "difference": difference}


def test_the_better_of_two_is_left():
    assert standing(["a", "b"], [pair("a", "b", "better")]) == Standing(["a"], "better")
    assert standing(["a", "b"], [pair("a", "b", "better", 0.1)]) == Standing(["b"], "better")


def test_equivalent_and_undecided_leave_both():
    for verdict in ("equivalent", "undecided"):
        assert standing(["a", "b"], [pair("a", "b", verdict)]) == Standing(["a", "b"], verdict)


def test_of_three_the_beaten_one_is_left_out_and_the_others_go_on():
    pairs = [pair("a", "b", "undecided"), pair("a", "c", "better"), pair("b", "c", "undecided")]
    assert standing(["a", "b", "c"], pairs) == Standing(["a", "b"], "undecided")
    pairs[0]["verdict"] = "equivalent"
    assert standing(["a", "b", "c"], pairs) == Standing(["a", "b"], "equivalent")


def test_one_that_beats_all_others_ends_it_whatever_these_are_to_each_other():
    pairs = [pair("a", "b", "better"), pair("a", "c", "better"), pair("b", "c", "undecided")]
    assert standing(["a", "b", "c"], pairs) == Standing(["a"], "better")


# The whole, on runs that are there


SKILLS = {"strong": 1.5, "weak": 0.8, "twin": 1.5}


@pytest.fixture
def there(tmp_path, monkeypatch):
    """Let the run of every step of a plan be there, made up; gives the names that are asked for."""
    monkeypatch.chdir(tmp_path)

    def put(plan: Plan) -> list[str]:
        both = [(model, step) for model in plan.models for step in plan.steps]
        runs = {name_of(*each): made(tmp_path, *each) for each in both}
        asked: list[str] = []
        monkeypatch.setattr(settling, "experiments", lambda: {name: name for name in runs})
        monkeypatch.setattr(settling, "fetch", lambda name: (runs[name], None))
        monkeypatch.setattr(settling, "train", lambda _, *of: asked.append(name_of(*of)))
        return asked

    return put


def made(folder: Path, model: str, step: Step) -> finished.Result:
    """A run of 2,000 votes in five folds, cut to those of a step."""
    folder = folder / f"{model}-{step.seed}"
    if not folder.exists():
        seed = 100 * list(SKILLS).index(model) + step.seed
        write_run(folder, model, SKILLS[model], seed, rows=2000, folds=5)
    result = finished.read(folder, name_of(model, step))
    params = copy.deepcopy(result.params)
    params["split"] = {"folds": list(range(step.folds)), "of": 5}
    params["train"]["seed"] = step.seed
    return replace(result, params=params, rows=result.rows[result.rows.fold < step.folds])


def test_a_clear_difference_ends_it_before_the_plan_does(there, capsys):
    plan = Plan(["strong", "weak"], [], steps([1, 2, 3], 5), 5)
    asked = there(plan)
    settling.settle(plan)
    assert set(asked) <= {f"settle-{m}-seed-1-folds-{k}" for m in SKILLS for k in (3, 4, 5)}
    printed = capsys.readouterr().out
    assert "BETTER. strong is better than weak" in printed and "of all were left out" in printed
    looks = json.loads(SETTLED.read_text(encoding="utf-8"))["looks"]
    assert [look["verdict"] for look in looks[:-1]] == ["undecided"] * (len(looks) - 1)
    assert looks[-1]["verdict"] == "better" and looks[-1]["left"] == ["strong"]


def test_of_three_a_beaten_one_is_trained_no_further_and_twins_go_to_the_end(there, capsys):
    plan = Plan(["strong", "weak", "twin"], [], steps([1, 2], 5), 5)
    asked = there(plan)
    settling.settle(plan)
    assert "settle-weak-seed-2-folds-5" not in asked
    assert {"settle-strong-seed-2-folds-5", "settle-twin-seed-2-folds-5"} <= set(asked)
    printed = capsys.readouterr().out
    assert "weak will not be trained any further: another is better." in printed
    assert "UNDECIDED. Whether strong or twin is better is undecided" in printed
    assert "10 for strong, " in printed and "10 for twin were made" in printed
