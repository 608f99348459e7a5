"""Several planned looks: their levels, what they ask for, and how often they are wrong."""

import json

import numpy as np
import pytest

from stages import compare as command
from stages.comparison import paired, words
from stages.comparison.compare import compare
from stages.comparison.looks import ALPHA, ONLY, Look, read_look
from stages.config.errors import UserError
from stages.runs import finished
from tests.support.runs import write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[finished.Result]:
    """Two runs of 600 votes in five folds, the first better."""
    folder = tmp_path_factory.mktemp("runs")
    for name, skill in (("good", 1.5), ("fair", 0.8)):
        write_run(folder / name, f"tiny-{name}", skill, seed=len(name), rows=600, folds=5)
    return [finished.read(folder / name, str(folder / name)) for name in ("good", "fair")]


# The levels


def test_one_look_has_the_level_of_a_comparison():
    assert ONLY.level == ALPHA == 0.05 and ONLY.confidence == 0.95


@pytest.mark.parametrize(
    ("looks", "early", "last"), [(2, 0.01, 0.04), (3, 0.005, 0.04), (5, 0.0025, 0.04)]
)
def test_early_looks_share_a_fifth_and_all_add_up_to_five_percent(looks, early, last):
    levels = [Look(number, looks).level for number in range(1, looks + 1)]
    assert levels == pytest.approx([early] * (looks - 1) + [last])
    assert sum(levels) == pytest.approx(ALPHA)


def test_equal_backbones_are_called_different_in_less_than_five_percent_over_all_looks():
    rng, looks = np.random.default_rng(0), {1: 3, 2: 4, 3: 5}
    common, own = rng.normal(size=(500, 1)), rng.normal(size=(500, 5))
    means = np.sqrt(0.2) * common + np.sqrt(0.8) * own  # the folds share what is allowed for
    p_values = [
        [paired.corrected_t(row[:k], np.arange(k), 0.95, of=5)["p_value"] for k in looks.values()]
        for row in means
    ]
    levels = [Look(number, len(looks)).level for number in looks]
    wrong, naive = ((np.array(p_values) < limit).any(axis=1).mean() for limit in (levels, ALPHA))
    assert 0.02 < wrong < 0.05
    assert naive > 0.07, "looking at 5 % each time would be wrong too often"


@pytest.mark.parametrize("told", ["0/3", "4/3", "2", "2/", "a/b", "-1/3"])
def test_what_is_no_look_is_refused(told):
    with pytest.raises(UserError, match=f"such as 2/5, found {told}"):
        read_look(told)


# The interval over some of the folds


def test_the_interval_over_some_folds_counts_what_each_trained_on():
    means, folds = np.array([0.01, 0.03, 0.02]), np.arange(3)
    found = paired.corrected_t(means, folds, 0.95, of=5)
    # Standard deviation 0.01, times the root of 1/3 + (1/5)/(4/5); t of 2 degrees is 4.302653.
    half = 4.302653 * 0.01 * (1 / 3 + 1 / 4) ** 0.5
    assert found["low"] == pytest.approx(0.02 - half)
    assert found["high"] == pytest.approx(0.02 + half)
    assert paired.corrected_t(means, folds, 0.95, of=3) == paired.corrected_t(means, folds, 0.95)


# The verdict at a look


def test_a_look_has_wider_intervals_and_says_which_it_was_and_whether_to_go_on(runs):
    once, early = compare(runs), compare(runs, look=Look(2, 3))
    assert once["look"] == {"number": 1, "of": 1, "level": 0.05, "sentences": []}
    assert early["confidence"] == 0.995 and early["look"]["number"] == 2
    for wide, narrow in (
        (early["pairs"][0], once["pairs"][0]),
        (early["pairs"][0]["folds"], once["pairs"][0]["folds"]),
    ):
        assert wide["low"] < narrow["low"] and narrow["high"] < wide["high"]
    assert early["verdict"] == "better"
    assert early["look"]["sentences"] == [
        "This was look 2 of 3, with 5 folds and 1 seed. A claim at this look needs a p value below "
        "0.005 and intervals of 99.5 %. It is decided: what is planned beyond this look need not "
        "be trained."
    ]
    assert "99.5 % interval" in early["sentence"]
    assert early["look"]["sentences"][0] in words.text(early)


def test_a_p_value_between_the_levels_is_a_claim_of_the_last_look_alone(runs, monkeypatch):
    monkeypatch.setattr(paired, "holm", lambda p_values: [0.02 for _ in p_values])
    verdicts = {number: compare(runs, look=Look(number, 3))["verdict"] for number in (1, 2, 3)}
    assert verdicts == {1: "undecided", 2: "undecided", 3: "better"}
    said = compare(runs, look=Look(1, 3))["look"]["sentences"][0]
    assert "It is not decided yet: go on to the next look." in said


def test_after_the_last_look_nobody_is_told_to_go_on(runs):
    (said,) = compare([runs[1], renamed(runs[1])], look=Look(3, 3))["look"]["sentences"]
    assert "It was the last: further looks would call more than 5 %" in said


def renamed(run: finished.Result) -> finished.Result:
    """The same predictions under another prompt, so that it is another backbone as trained."""
    prompt = {"prompt": 0.1, "response_a": 0.45, "response_b": 0.45}
    return finished.Result(
        **{**vars(run), "name": "again", "params": run.params | {"prompt": prompt}}
    )


def test_an_invalid_look_says_what_to_do(runs):
    other = finished.Result(**{**vars(runs[1]), "raw_votes": "f" * 32, "rows": runs[1].rows[:500]})
    comparison = compare([runs[0], other], look=Look(1, 3))
    assert comparison["verdict"] == "invalid"
    (said,) = comparison["look"]["sentences"]
    assert said.startswith("This was look 1 of 3. ") and "mend what makes" in said


def test_runs_of_some_folds_without_a_look_are_told_to_plan(runs):
    some = [
        finished.Result(
            **{
                **vars(run),
                "rows": run.rows[run.rows.fold < 4],
                "params": run.params | {"split": {"folds": [0, 1, 2, 3], "of": 5}},
            }
        )
        for run in runs
    ]
    told = "4 of 5 folds were trained: this verdict counts if no more are to be trained."
    assert any(warning.startswith(told) for warning in compare(some)["warnings"])
    looked = compare(some, look=Look(2, 3))
    assert not any(warning.startswith("4 of 5") for warning in looked["warnings"])
    assert "with 4 of 5 folds and 1 seed" in looked["look"]["sentences"][0]


def test_the_command_writes_which_look_it_was(runs, tmp_path, monkeypatch, capsys):
    output = tmp_path / "told.json"
    arguments = [*(run.name for run in runs), "--look", "2/3", "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["compare", *arguments])
    command.main()
    assert "This was look 2 of 3, " in capsys.readouterr().out
    assert json.loads(output.read_text(encoding="utf-8"))["look"]["of"] == 3
    page = output.with_suffix(".html").read_text(encoding="utf-8")
    assert "This was look 2 of 3, " in page and "Lines are 99.5 % intervals" in page
