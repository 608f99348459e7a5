"""Folds: nothing that a user wrote in two of them, classes in equal shares, whole groups."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from stages.config.errors import UserError
from stages.votes.folds import assign, deal, describe, draw
from stages.votes.groups import find_groups, normalised
from stages.votes.labels import TARGETS, Votes
from tests.support import forked
from tests.support.places import REPO


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 2+2?", "what is  2 + 2"),
        ("Write a poem.", "WRITE A POEM!!\n"),
        ("“Straße”", "STRASSE"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("e\u0301te\u0301", "été"),
        ("zero\u200bwidth", "zerowidth"),
        ("hello ❤\ufe0f", "Hello"),
        ("snake_case", "snake case"),
        ("?!", "？ ！"),
        ("...", "…"),
    ],
)
def test_near_copies_share_a_group(one, other):
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 2+2?", "What is 2+3?"),
        ("?", "!"),
        ("?", ""),
        ("❤\ufe0f", "☀\ufe0f"),
        ("😀", "😢"),
        ("कि", "की"),
        ("résumé", "resume"),
    ],
)
def test_other_prompts_do_not(one, other):
    assert normalised(one) != normalised(other)


QUESTION = "How do I boil a soft egg in a small pot?"


def names(*prompts: list[str]) -> pd.Series:
    """The groups of battles with these user turns."""
    return find_groups(pd.Series(list(prompts))).names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([QUESTION], [QUESTION.upper(), "And a hard one?"]),
        (["Hi", QUESTION], [QUESTION]),
        (["Hi", QUESTION, "Thanks"], ["Hello!", "and now", QUESTION]),
        (["2+2?"], ["2 + 2"]),
        (["Hi", "2+2?"], ["hi!", "2 + 2"]),
        (["中国的首都是哪里?"], ["你好", "中国的首都是哪里"]),
    ],
)
def test_battles_that_share_a_turn_of_substance_or_all_turns_share_a_group(one, other):
    assert names(one, other).nunique() == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["Hello", QUESTION], ["Hello", "Which river is the longest of Europe?"]),
        (["Hello, how are you?"], ["Hello, how are you?", QUESTION]),
        (
            [QUESTION, "Explain in more detail."],
            ["What is a barometer for?", "Explain in more detail"],
        ),
        (["你好"], ["你好", QUESTION]),
        (["", QUESTION], ["", "Which river is the longest of Europe?"]),
    ],
)
def test_an_opener_or_a_follow_up_joins_nothing(one, other):
    assert names(one, other).nunique() == 2


def test_groups_join_over_several_battles_in_any_order():
    chain = [["Hi", QUESTION], [QUESTION, "Which river is the longest of Europe?"]]
    chain += [["Which river is the longest of Europe?", "Thanks"], ["Hi"]]
    found = names(*chain)
    assert found[:3].nunique() == 1 and found[3] not in set(found[:3])
    assert names(*reversed(chain)).tolist() == found[::-1].tolist()


def test_a_group_of_most_battles_is_told_without_its_text():
    prompts = [[QUESTION, f"and this is question number {i}"] for i in range(6)] + [["Hi"], ["Yo"]]
    grouping = find_groups(pd.Series(prompts))
    assert (grouping.largest, grouping.carriers) == (6, 6)
    assert grouping.warning().startswith(
        "one prompt group holds 6 of 8 battles: 6 of them share a text of 29 letters and digits"
    )
    assert "boil" not in grouping.warning().lower()
    assert find_groups(pd.Series([["Hi"], ["Yo"]])).warning() is None


LETTERS = st.text("aZ9 éÉßжЖ文?!.,\t\n")


@given(LETTERS, st.sampled_from([str.upper, str.lower, str.title]), st.sampled_from(" \n\t\xa0"))
def test_case_and_spaces_never_matter(prompt, change, space):
    assert normalised(change(prompt).join([space, space])) == normalised(prompt)


VOTES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), max_size=120)
SPELLINGS = ("Question {}?", "question   {}", "QUESTION-{}\n")


@given(VOTES, st.integers(0, 99))
def test_no_prompt_or_near_copy_crosses_folds(votes, seed):
    votes += [(100 + i, i % 3) for i in range(9)]  # enough of each class, whatever was drawn
    prompts = [SPELLINGS[i % 3].format(number) for i, (number, _) in enumerate(votes)]
    labels = np.array([label for _, label in votes])
    folds = assign(labels, names(*([prompt] for prompt in prompts)).to_numpy(), 3, seed)
    assert set(folds) == {0, 1, 2}
    numbers = [number for number, _ in votes]
    assert (pd.Series(folds).groupby(numbers).nunique() == 1).all()


def test_folds_hold_equal_shares_of_the_classes():
    labels = np.repeat([0, 1, 2], [100, 150, 250])
    groups = np.array([f"g{i // 2}" for i in range(500)])
    folds = assign(labels, groups, 5, 0)
    for fold in range(5):
        shares = np.bincount(labels[folds == fold]) / (folds == fold).sum()
        assert shares == pytest.approx([0.2, 0.3, 0.5], abs=0.02)
        assert (folds == fold).sum() == pytest.approx(100, abs=4)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7), st.sampled_from([2, 3]), st.integers(20, 300))
def test_folds_are_those_of_scikit_learn(seed, k, classes, n):
    rng = np.random.default_rng(seed)
    labels = np.append(rng.choice(classes, n, p=rng.dirichlet(np.full(classes, 5))), [0, 1] * k)
    own = np.array([f"own {i}" for i in range(2 * k)])
    groups = np.append(rng.integers(0, rng.integers(1, n), n).astype(str), own)
    if classes == 3:
        labels, groups = (
            np.append(labels, [2] * k),
            np.append(groups, [f"tie {i}" for i in range(k)]),
        )
    splitter = StratifiedGroupKFold(n_splits=k, shuffle=True, random_state=seed)
    found = assign(labels, groups, k, seed)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        assert (np.flatnonzero(found == fold) == held_out).all()


def make_dealt(labels: list[int], training_only: list[bool]) -> pd.DataFrame:
    """Battles of a group each."""
    targets = pd.DataFrame(np.eye(3)[labels], columns=list(TARGETS))
    frame = targets.assign(id=[str(i) for i in range(len(labels))], weight=1.0)
    return frame.assign(group=frame.id, training_only=training_only)


def test_battles_that_are_only_trained_on_are_in_no_fold_and_not_counted():
    battles = make_dealt([0, 1, 2] * 20, [i % 4 == 0 for i in range(60)])
    battles.loc[battles.training_only, list(TARGETS)] = [1, 0, 0]
    folds, metrics = deal(battles, 30, 2, 0)
    assert set(folds.id[folds.fold == -1]) == set(battles.id[battles.training_only])
    assert (folds.fold >= 0).sum() == metrics["rows"] == metrics["groups"] == 30
    assert metrics["fold_0"]["rows"] + metrics["fold_1"]["rows"] == 30
    assert metrics["share"]["a"] == pytest.approx(1 / 3, abs=0.1)


def make_grouped(n: int) -> pd.DataFrame:
    """Battles, two of a group, of all classes."""
    battles = make_dealt([(i // 2) % 3 for i in range(n)], [False] * n)
    return battles.assign(group=[f"g{i // 2}" for i in range(n)])


def test_votes_reserved_for_tuning_are_whole_groups_of_all_classes_in_no_fold():
    battles = make_grouped(600)
    folds, metrics = deal(battles, None, 3, 0, tuning=0.15)
    reserved = folds.fold == -1
    assert reserved.mean() == pytest.approx(0.15, abs=0.01)
    assert (folds.groupby("group").fold.nunique() == 1).all()
    assert set(folds.fold) == {-1, 0, 1, 2}
    assert (
        metrics["rows"] == (~reserved).sum() == sum(metrics[f"fold_{k}"]["rows"] for k in (0, 1, 2))
    )
    assert metrics["tuning"]["rows"] == reserved.sum()
    assert list(metrics["tuning"]["share"].values()) == pytest.approx([1 / 3] * 3, abs=0.03)
    again, other = (deal(battles, None, 3, seed, tuning=0.15)[0] for seed in (0, 1))
    assert again.equals(folds) and not other.equals(folds)


def test_without_a_share_for_tuning_nothing_is_reserved():
    folds, metrics = deal(make_grouped(60), None, 3, 0)
    assert (folds.fold >= 0).all() and "tuning" not in metrics


def test_reserved_votes_are_the_runs_own_and_those_of_other_files_are_not():
    battles = make_grouped(120)
    battles["training_only"] = [i % 6 == 0 for i in range(120)]
    folds, metrics = deal(battles, 60, 2, 0, tuning=0.2)
    table = folds.merge(battles[["id", "training_only"]], on="id")
    assert table.training_only.sum() == battles.training_only.sum()
    own = table[~table.training_only]
    assert (own.fold < 0).sum() == metrics["tuning"]["rows"] > 0
    assert len(own) <= 60, "reserved votes count for `rows`"


def test_a_share_too_small_for_a_group_is_refused():
    with pytest.raises(UserError, match=r"split\.tuning is 0\.001, too little .* raise it"):
        deal(make_grouped(60), None, 2, 0, tuning=0.001)


def test_without_ties_there_are_two_classes():
    folds, metrics = deal(make_dealt([0, 1] * 10, [False] * 20), None, 5, 0)
    assert folds.fold.value_counts().to_dict() == dict.fromkeys(range(5), 4)
    assert metrics["share"] == {"a": 0.5, "b": 0.5, "tie": 0}


def test_shares_are_those_of_weighted_targets():
    battles = make_dealt([0, 1, 0, 1], [False] * 4).assign(weight=[3, 1, 1, 1])
    battles.loc[0, list(TARGETS)] = [0.5, 0.3, 0.2]
    assert deal(battles, None, 2, 0)[1]["share"] == pytest.approx(
        {"a": 2.5 / 6, "b": 2.9 / 6, "tie": 0.6 / 6}
    )


def test_the_seed_decides_the_folds_and_the_rows():
    labels, groups = np.arange(300) % 3, np.arange(300).astype(str)
    again, other = (assign(labels, groups, 3, seed) for seed in (1, 2))
    assert (assign(labels, groups, 3, 1) == again).all() and (other != again).any()
    names = pd.Series(groups)
    assert draw(names, 60, 1).equals(draw(names, 60, 1))
    assert not draw(names, 60, 1).equals(draw(names, 60, 2))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 200), st.integers(0, 9))
def test_whole_groups_are_drawn_up_to_the_number_of_rows(sizes, rows, seed):
    groups = pd.Series(np.repeat(np.arange(len(sizes)), sizes)).astype(str)
    used = draw(groups, rows, seed)
    assert used.groupby(groups).nunique().eq(1).all()
    assert used.sum() <= rows
    left_out = groups[~used].value_counts()
    assert left_out.empty or used.sum() + left_out.min() > rows  # no other group would fit


def test_drawn_rows_are_like_all_rows():
    values = pd.Series(np.arange(5000))
    drawn = values[draw(values.astype(str), 1000, 3)]
    assert drawn.mean() == pytest.approx(2500, abs=150)  # more than 3 standard errors


def test_without_a_limit_all_rows_are_used():
    groups = pd.Series(["a", "a", "b"])
    assert draw(groups, None, 0).all() and draw(groups, 3, 0).all()


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        ([0, 1, 2, 0, 1], ["a", "b", "c", "d", "e"]),  # one tie
        ([0, 1, 2, 0, 1, 2], ["a", "b", "c", "d", "e", "c"]),  # two ties of one prompt
        ([0, 1, 2, 0, 1, 2], ["a"] * 6),
        ([], []),
    ],
)
def test_too_few_prompts_of_a_class_for_the_folds_say_what_to_do(labels, groups):
    with pytest.raises(UserError, match=r"2 folds need 2 .*split\.folds.*data\.raw"):
        assign(np.array(labels, dtype=int), np.array(groups, dtype=object), 2, 0)


def test_ties_that_are_too_scarce_may_be_left_out():
    with pytest.raises(
        UserError,
        match=r"9 groups for b, 2 groups for tie: .*data\.raw.* with `-S data\.ties=drop`$",
    ):
        assign(np.array([0, 1] * 9 + [2, 2]), np.arange(20), 3, 0)
    with pytest.raises(UserError, match=r"2 groups for a, 9 groups for b: .*data\.raw$"):
        assign(np.array([0, 0] + [1] * 9), np.arange(11), 3, 0)


def test_the_metrics_give_each_folds_shares():
    folds = pd.DataFrame({"group": ["a", "a", "b", "c"], "fold": [0, 0, 1, 1]})
    half = {"a": 0.5, "b": 0.5, "tie": 0.0}
    assert describe(folds, Votes(np.eye(3)[[0, 1, 0, 1]], np.ones(4))) == {
        "rows": 4,
        "groups": 3,
        "share": half,
        "largest_group": {"rows": 2, "share": 0.5},
        "fold_0": {"rows": 2, "groups": 1, "share": half},
        "fold_1": {"rows": 2, "groups": 2, "share": half},
    }


# The stage


def run(folder: Path) -> subprocess.CompletedProcess:
    """Run the stage in a folder of its own, as DVC does, with 30 rows in two folds."""
    params = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    params["scales"][params["scale"]]["rows"] = 30
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    done = subprocess.run(
        [forked.commands() / "python", "-m", "stages.split"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done


def write_battles(folder: Path, labels: list[int]) -> None:
    path = folder / "data/prepared/battles.parquet"
    path.parent.mkdir(parents=True)
    prompts = [[SPELLINGS[i % 2].format(i // 2), "and then?"] for i in range(len(labels))]
    ids = [f"00{i}" for i in range(len(labels))]
    frame = pd.DataFrame({"id": ids, "prompt": prompts, "weight": 1.0})
    frame["training_only"] = False
    frame[list(TARGETS)] = np.eye(3)[labels]
    frame.astype({"id": "string"}).to_parquet(path, index=False)


def test_the_stage_writes_folds_of_the_scales_rows_and_their_metrics(tmp_path):
    write_battles(tmp_path, [i % 3 for i in range(60)])
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "30 battles in 15 prompt groups, 2 folds; the largest group has 2 (6.7%)" in done.stdout
    folds = pd.read_parquet(tmp_path / "data/folds/folds.parquet")
    assert folds.dtypes.astype(str).to_dict() == {"id": "string", "group": "string", "fold": "int8"}
    assert folds.id.str.startswith("00").all() and folds.id.is_unique
    assert (folds.groupby("group").fold.nunique() == 1).all()
    metrics = json.loads((tmp_path / "metrics/split.json").read_text(encoding="utf-8"))
    assert metrics["rows"] == 30 == metrics["fold_0"]["rows"] + metrics["fold_1"]["rows"]
    assert sum(metrics["fold_1"]["share"].values()) == pytest.approx(1)


def test_the_stage_stops_when_a_class_is_too_scarce_and_before_prepare(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 1 and "run `dvc repro prepare` first" in done.stderr
    write_battles(tmp_path, [0, 1] * 15 + [2])
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: 2 folds need 2 prompt groups with a vote for each")
