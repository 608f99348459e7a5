"""Settling as its user runs it: with real DVC in a temporary clone, and tiny backbones."""

import json
import time

import psutil
import pytest

from stages.config.errors import GO_ON
from tests.support.clones import Clone

# No gain is then worth anything, so that the first look ends it, whatever tiny backbones learn.
NOTHING_COUNTS = ("-S", "evaluate.equivalence=5")
SETTLE = ("python", "-m", "stages.settle", "--models", "llama,gemma", "--seeds", "1,2")
SETTLE += ("-S", "split.folds=[0,1,2,3]", *NOTHING_COUNTS)
NAMES = [f"settle-{model}-seed-1-folds-3" for model in ("llama", "gemma")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory, tiny) -> Clone:
    """A clone in which a settlement has ended at its first look."""
    clone = Clone(tmp_path_factory.mktemp("clone")).make(tiny).drop("report", "publish")
    clone.params = (clone.path / "params.yaml").read_text(encoding="utf-8")
    clone.printed = clone.run(*SETTLE)
    return clone


def settled(clone: Clone) -> dict:
    return json.loads((clone.path / "metrics/settled.json").read_text(encoding="utf-8"))


def steps(clone: Clone) -> int:
    """How many steps the trainings that go on have told."""
    files = (clone.path / ".state/checkpoints").glob("*.jsonl")
    return sum(file.read_text(encoding="utf-8").count('"step"') for file in files)


def test_it_trains_what_the_first_look_needs_and_stops_where_that_decides(clone):
    assert "2 backbones, 4 folds, 2 seeds: 3 looks, and at most 16 trainings of a fold" in (
        clone.printed
    )
    assert "Look 1 of 3: 3 of 4 folds with seed 1" in clone.printed
    assert "Look 2" not in clone.printed and "Running stage 'train@3'" not in clone.printed
    assert "INVALID. No verdict" in clone.printed
    assert "3 for llama, 3 for gemma were made: 62% of all were left out" in clone.printed
    assert "Left out for all: fold 3 of seed 1, seed 2." in clone.printed
    (look,) = settled(clone)["looks"]
    assert look["verdict"] == "invalid" and look["runs"] == NAMES
    assert (look["look"], look["of"]) == (1, 3) and look["level"] == pytest.approx(0.005)
    listed = clone.dvc("exp", "list", "--name-only").split()
    assert sorted(listed) == sorted(NAMES)
    assert (clone.path / "params.yaml").read_text(encoding="utf-8") == clone.params


@pytest.mark.slow
def test_given_again_it_goes_on_with_what_is_there(clone):
    before = settled(clone)
    clone.dvc("exp", "remove", NAMES[1])
    printed = clone.run(*SETTLE)
    assert f"{NAMES[0]} is there" in printed and f"-n {NAMES[1]} " in printed
    assert "Stage 'train@0' is cached" in printed and "Running stage 'train" not in printed
    assert settled(clone) == before


def test_its_last_look_can_be_repeated_and_told_as_a_page(clone):
    clone.run("python", "-m", "stages.compare", *NAMES, "--look", "1/3")
    told = json.loads((clone.path / "metrics/comparison.json").read_text(encoding="utf-8"))
    assert told == settled(clone)["looks"][0]["comparison"]
    page = (clone.path / "metrics/comparison.html").read_text(encoding="utf-8")
    assert "This was look 1 of 3, with 3 of 4 folds and 1 seed." in page


def test_runs_that_were_made_otherwise_are_not_taken(clone):
    printed = clone.run(*SETTLE, "-S", "train.lora.r=4", succeeds=False)
    refusal = f"error: the experiment {NAMES[0]} was made with other params than this command"
    assert refusal in printed and f"dvc exp remove {NAMES[0]}" in printed
    votes = clone.path / "data/raw/starter.csv"
    content = votes.read_text(encoding="utf-8")
    votes.write_text(content[: content.rindex("\n", 0, -1) + 1], encoding="utf-8")
    printed = clone.run(*SETTLE, succeeds=False)
    votes.write_text(content, encoding="utf-8")
    assert "was made with other code or votes than this command" in printed
    assert "Traceback" not in printed


@pytest.mark.slow
def test_sigterm_to_it_alone_ends_its_training_and_leaves_no_folder(clone):
    longer = ("--seeds", "9", "-S", "scales.smoke.epochs=1000")
    settle = clone.start(*SETTLE, *longer)
    while not steps(clone):
        assert settle.poll() is None, settle.communicate()[0]
        time.sleep(0.1)
    started = psutil.Process(settle.pid).children(recursive=True)
    assert any("stages.train" in each.cmdline() for each in started)
    settle.terminate()
    printed, _ = settle.communicate(timeout=60)
    assert settle.returncode == 143 and printed.splitlines()[-1] == GO_ON
    assert not [each for each in started if each.is_running()]
    assert "Traceback" not in printed
    assert not list((clone.path / ".dvc/tmp/exps/standalone").glob("tmp*"))
