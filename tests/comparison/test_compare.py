"""The verdict on runs whose truth is known, and on tables of losses that people post."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from stages import compare as command
from stages.comparison import paired, posted, words
from stages.comparison.compare import compare
from stages.comparison.verdict import by_intervals
from stages.config.errors import UserError
from stages.runs import finished
from tests.support.places import REPO
from tests.support.runs import leave_unknown, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Make a finished run, of 600 votes unless said otherwise, and read it."""

    def make(name: str, rows: int = 600, **settings: object) -> finished.Result:
        folder = tmp_path_factory.mktemp("run") / name
        write_run(folder, checkpoint=f"tiny-{name}", rows=rows, folds=5, **settings)
        return finished.read(folder, name)

    return make


@pytest.fixture(scope="module")
def good(run) -> finished.Result:
    return run("good", skill=1.5, seed=1)


@pytest.fixture(scope="module")
def fair(run) -> finished.Result:
    return run("fair", skill=0.8, seed=2)


# The verdict


def test_a_clearly_better_backbone_is_called_better(good, fair):
    comparison = compare([fair, good])
    assert comparison["verdict"] == "better" and comparison["reasons"] == []
    (pair,) = comparison["pairs"]
    losses = good.metrics["log_loss"], fair.metrics["log_loss"]
    assert pair["difference"] == pytest.approx(losses[1] - losses[0])
    assert 0 < pair["low"] < pair["difference"] < pair["high"] and pair["folds"]["low"] > 0
    assert pair["p_value_holm"] < 0.01 and pair["accuracy_difference"] < 0
    sentence = comparison["sentence"]
    assert sentence.startswith("tiny-good is better than tiny-fair") and "600 votes" in sentence
    assert f"{pair['low']:.4f} to {pair['high']:.4f}" in sentence


def test_the_order_of_the_names_changes_the_sign_and_nothing_else(good, fair):
    (ab,), (ba,) = compare([fair, good])["pairs"], compare([good, fair])["pairs"]
    assert ab["difference"] == pytest.approx(-ba["difference"])
    assert ab["verdict"] == ba["verdict"] and ab["sentence"] == ba["sentence"]


def test_runs_of_one_skill_are_not_called_better(run, good):
    assert compare([good, run("twin", skill=1.5, seed=7)])["verdict"] != "better"


def test_slices_and_classes_add_up_to_all_votes(good, fair):
    (pair,) = compare([good, fair])["pairs"]
    mean = sum(c["rows"] * c["difference"] for c in pair["classes"].values()) / 600
    assert list(pair["classes"]) == ["a", "b", "tie"] and mean == pytest.approx(pair["difference"])
    lengths = [s for s in pair["slices"] if s["slice"] == "length"]
    assert [s["value"] for s in lengths] == ["short", "medium", "long"]
    assert sum(s["rows"] for s in lengths) == 600
    assert all(s["low"] <= s["difference"] <= s["high"] for s in pair["slices"])


def test_three_backbones_are_held_to_holm(run, good, fair):
    comparison = compare([good, fair, run("weak", skill=0.4, seed=3)])
    assert len(comparison["pairs"]) == 3 and comparison["verdict"] == "better"
    assert "better than each of the 2 others" in comparison["sentence"]
    assert all(p["p_value_holm"] >= p["p_value"] for p in comparison["pairs"])


def test_a_backbone_that_did_not_learn_makes_it_invalid(run, good):
    comparison = compare([good, run("flat", skill=0.0, seed=4)])
    assert comparison["verdict"] == "invalid" and comparison["pairs"][0]["verdict"] == "invalid"
    assert "flat (tiny-flat) has not learned" in comparison["reasons"][0]
    assert "no better than the class prior" in comparison["sentence"]


def test_a_backbone_that_has_learned_nothing_beyond_its_offset_is_named(run, good):
    still = run("still", skill=0.8)
    still.metrics.update(learned="no", reference="counts")
    (reason,) = compare([good, still])["reasons"]
    counts = still.metrics["baselines"]["counts"]
    assert reason.endswith(f"is no better than the offset alone (length and format) {counts:.4f}")
    still.metrics.update(learned="undecided")
    warnings = compare([good, still])["warnings"]
    gain = still.metrics["gain_over_counts"]
    assert any(
        f"its gain over the offset alone (length and format) is {gain:+.4f}, " in told
        for told in warnings
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.folds[0]["gates"][0].update(passed=False), "failed the gates first_loss"),
        (lambda r: r.params["train"].update(objective="sft"), "the objectives differ"),
        (lambda r: r.budget.update(epochs=9), "epochs of the budget differ: 1 in good; 9 in fair"),
        (lambda r: r.budget.update(batch_size=9), "batch_size of the budget"),
        (lambda r: r.rows.update({"fold": (r.rows.fold + 1) % 5}), "the votes or their folds"),
    ],
)
def test_runs_that_were_not_made_alike_are_not_compared(tmp_path, good, change, reason):
    write_run(tmp_path / "fair", checkpoint="tiny-fair", skill=0.8, rows=600, folds=5)
    fair = finished.read(tmp_path / "fair", "fair")
    change(fair)
    comparison = compare([good, fair])
    assert comparison["verdict"] == "invalid" and reason in comparison["reasons"][0]


def test_runs_on_other_votes_are_not_compared(run, good):
    comparison = compare([good, run("less", rows=500, skill=1.0)])
    assert comparison["verdict"] == "invalid" and comparison["pairs"] == []
    assert "rows differ: 600 in good; 500 in less" in comparison["reasons"]


def test_runs_without_ties_are_compared_with_each_other_and_with_no_others(run, good):
    strong, weak = (run(f"two-{s}", skill=s, seed=int(s), classes=2) for s in (2.0, 1.0))
    comparison = compare([strong, weak])
    assert comparison["verdict"] == "better" and comparison["reasons"] == []
    (pair,) = comparison["pairs"]
    assert list(pair["classes"]) == ["a", "b"]
    assert pair["difference"] == pytest.approx(
        strong.metrics["log_loss"] - weak.metrics["log_loss"]
    )
    mixed = compare([good, strong])
    assert mixed["verdict"] == "invalid" and mixed["pairs"] == []
    told = "the classes differ: a and b and tie in good; a and b in two-2.0"
    assert mixed["reasons"] == [told] and told in mixed["sentence"]


def test_what_a_run_leaves_unknown_changes_no_verdict(good, fair):
    comparison = compare([fair, leave_unknown(good)])
    assert comparison == compare([fair, good])
    assert "null" not in json.dumps(comparison["pairs"], allow_nan=False)


def seeds(run, name: str, skill: float, first: int) -> list[finished.Result]:
    """Three runs that differ in the training's seed alone."""
    made = []
    for seed in range(first, first + 3):
        result = run(name, rows=6000, skill=skill, seed=seed)
        result.params["train"]["seed"] = seed
        made.append(finished.Result(**{**vars(result), "name": f"{name}-{seed}"}))
    return made


def test_runs_of_one_checkpoint_are_told_apart_in_the_table(run, good):
    again = finished.Result(**{**vars(good), "name": "again"})
    told = words.text(compare([good, again, run("other", skill=0.8)])).splitlines()
    assert [line.split("  ")[0] for line in told[1:4]] == [
        f"{good.checkpoint} (good)",
        f"{good.checkpoint} (again)",
        "tiny-other",
    ]


def test_what_is_unlike_is_told_once_for_all_seeds(run, good):
    others = seeds(run, "more", skill=0.8, first=10)
    told = "rows differ: 600 in good; 6000 in more-10, more-11, more-12"
    assert compare([good, *others])["reasons"] == [told]


def test_a_small_difference_needs_three_seeds(run):
    ahead, behind = seeds(run, "ahead", 1.02, 10), seeds(run, "behind", 1.0, 20)
    one = compare([ahead[0], behind[0]])
    assert one["verdict"] == "undecided"
    three = compare([*ahead, *behind])
    assert three["seeds"]["ahead-10"]["runs"] == ["ahead-10", "ahead-11", "ahead-12"]
    assert three["seeds"]["ahead-10"]["std"] > 0 and len(three["pairs"]) == 1
    assert not any("three seeds" in warning for warning in three["warnings"])


def test_a_default_that_is_written_out_makes_no_other_run(run):
    ahead, behind = seeds(run, "ahead", 1.02, 10), seeds(run, "behind", 1.0, 20)
    for number, result in enumerate([*ahead, *behind]):
        written = {"training_only": True, "format": "auto"} if number % 2 else {}
        result.params["data"]["auxiliary"] = [{"raw": "more.csv", "weight": 1.0} | written]
        if number % 2:
            result.budget["lr_factor"] = 1.0
            result.params["train"]["lora"]["experts"] = False
            result.params["backbones"][result.params["model"]][result.budget["size"]]["hub"] = None
    found = compare([*ahead, *behind])
    assert found["seeds"]["ahead-10"]["runs"] == ["ahead-10", "ahead-11", "ahead-12"]
    assert not any("not trained alike" in warning for warning in found["warnings"])


def test_a_run_with_keys_that_are_no_more_is_compared(run, good):
    other = run("other", skill=0.8, seed=2)
    chosen = other.params["backbones"][other.params["model"]][other.budget["size"]]
    for section in (other.budget, chosen, other.params["train"]["lora"]):
        section["gone"] = 1
    assert compare([good, other])["verdict"] == "better"


def test_a_rate_of_another_objective_makes_no_other_run(run):
    ahead = seeds(run, "ahead", 1.02, 10)
    for result, other in zip(ahead, (1e-4, 2e-4, None), strict=True):
        trained = result.params["backbones"][result.params["model"]][result.budget["size"]]
        objective = result.params["train"]["objective"]
        rates = dict.fromkeys(("classify", "sft", "reward"), other) | {objective: 5e-4}
        trained["lr"] = 5e-4 if other is None else rates
    found = compare([*ahead, *seeds(run, "behind", 1.0, 20)])
    assert found["seeds"]["ahead-10"]["runs"] == ["ahead-10", "ahead-11", "ahead-12"]


def test_training_loss_that_ranks_otherwise_is_told(tmp_path, run, good):
    fair = run("fooled", skill=0.8, seed=2)
    for curve in fair.curves:
        curve["training_loss"] -= 0.5
    (warning,) = (w for w in compare([good, fair])["warnings"] if "training loss" in w)
    assert "rank good and fooled differently" in warning


def test_calibration_that_ranks_otherwise_is_told(run, good, fair):
    assert not any("calibrated" in w for w in compare([good, fair])["warnings"])
    sure = replace(good, metrics=good.metrics | {"log_loss_calibrated": 2.0})
    (warning,) = (w for w in compare([sure, fair])["warnings"] if "calibrated" in w)
    assert warning.startswith("log loss as trained and calibrated rank good and fair differently:")
    assert f"as trained {good.metrics['log_loss']:.4f} (good)" in warning
    assert "calibrated 2.0000 (good)" in warning


def test_what_is_told_of_two_backbones_is_told_once_for_all_their_seeds(run):
    ahead, behind = seeds(run, "ahead", 1.02, 10), seeds(run, "behind", 1.0, 20)
    for result in behind:
        result.params["train"]["lora"]["r"] = 99
        for curve in result.curves:
            curve["training_loss"] -= 0.5
    warnings = compare([*ahead, *behind])["warnings"]
    (settings,) = (warning for warning in warnings if "not trained alike" in warning)
    assert settings.startswith("ahead-10 and behind-20 were not trained alike: train.lora.r is 16")
    (ranks,) = (warning for warning in warnings if "training loss" in warning)
    assert "rank ahead-10 and behind-20 differently, means of 3 and 3 seeds: training" in ranks


def test_what_only_one_of_two_runs_reads_is_no_difference(run, good):
    other = run("other", skill=0.8, seed=2)
    other.params["train"] |= {"select": "best", "inner": 0.1}
    (warning,) = (w for w in compare([good, other])["warnings"] if "not trained alike" in w)
    assert warning.endswith("not trained alike: train.select is last and best")


def test_other_settings_and_strong_baselines_are_told(run, good):
    other = run("other", skill=0.8, seed=2)
    other.params["train"]["lora"]["r"] = 99
    other.params["prompt"]["counts"] = True
    other.metrics["tokens_seen"] *= 2
    other.metrics["baselines"]["counts"] = good.metrics["baselines"]["counts"] = 0.1
    warnings = compare([good, other])["warnings"]
    settings = "not trained alike: prompt.counts is false and true, train.lora.r is 16 and 99"
    assert any(settings in warning for warning in warnings)
    assert any("more than tokenizers explain" in warning for warning in warnings)
    behind = (
        "every run is behind a baseline without a language model: length and format has 0.1000; "
        f"the best run, good, has {good.metrics['log_loss']:.4f}"
    )
    assert behind in warnings


# Its statistics


@pytest.mark.parametrize(
    ("bootstrap", "folds", "p", "expected"),
    [
        ((0.01, 0.03), (0.005, 0.035), 0.01, "better"),
        ((0.01, 0.03), (-0.005, 0.045), 0.01, "undecided"),
        ((0.01, 0.03), (0.005, 0.035), 0.06, "undecided"),
        ((-0.004, 0.003), (-0.0045, 0.004), 0.8, "equivalent"),
        ((-0.004, 0.003), (-0.02, 0.02), 0.8, "undecided"),
        ((-0.03, -0.01), (-0.04, -0.001), 0.01, "better"),
    ],
)
def test_a_claim_needs_both_intervals(bootstrap, folds, p, expected):
    intervals = [dict(zip(("low", "high"), ends, strict=True)) for ends in (bootstrap, folds)]
    assert by_intervals(*intervals, p, 0.005) == expected


def test_the_corrected_interval_is_nadeau_and_bengios():
    values, folds = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], 10), np.repeat(np.arange(5), 10)
    found = paired.corrected_t(values, folds, 0.95)
    half = 2.7764451 * np.sqrt(2.5 * (1 / 5 + 1 / 4))  # t of 4 degrees, variance of 1 to 5
    assert found["difference"] == 3 and found["high"] - 3 == pytest.approx(half)


def test_holm_is_holms():
    assert paired.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_mcnemar_looks_at_disagreements_only():
    a = np.array([True] * 50 + [True] * 8 + [False] * 0 + [False] * 40)
    b = np.array([True] * 50 + [False] * 8 + [False] * 40)
    assert paired.mcnemar(a, b) == pytest.approx(2 * 0.5**8)
    assert paired.mcnemar(a, a) == 1


# Posted losses


def test_the_threads_numbers_are_invalid(capsys):
    assessment = posted.assess(posted.load(REPO / "docs/thread.yaml"))
    assert assessment["verdict"] == "invalid" and len(assessment["reasons"]) == 1
    assert assessment["prior"] == pytest.approx(1.0972, abs=5e-5)
    assert (
        "llama-3.1-8b's validation loss of 1.097 lies at the class prior, 1.0972"
        in (assessment["sentence"])
    )
    suspicions = "\n".join(assessment["suspicions"])
    for found in ("2.65, far above ln 3", "rises from 2.65 to 3.3", "0.981 is 0.044 above"):
        assert found in suspicions


def test_sound_losses_are_still_no_verdict(tmp_path):
    table = {"votes": {"a": 4, "b": 3, "tie": 3}, "runs": {"x": 0.93, "y": 0.95}}
    table["runs"] = {n: {"validation_loss": loss} for n, loss in table["runs"].items()}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(table), encoding="utf-8")
    assessment = posted.assess(posted.load(tmp_path / "t.yaml"))
    assert assessment["verdict"] == "undecided" and assessment["reasons"] == []
    assert "needs each run's predictions" in assessment["sentence"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("votes: {a: 1, b: 1, ties: 1}\nruns: {}", "did you mean 'tie'"),
        ("votes: {a: 1, b: 1, tie: 1}\nruns: {x: {validation_loss: 1}}", "runs"),
        ("votes: [", "not valid YAML"),
        ("votes: {a: 1, b: 1, tie: 1}\nruns: {x: {loss: 1}, y: {}}", "unknown key"),
    ],
)
def test_a_table_that_cannot_be_read_is_explained(tmp_path, content, message):
    path = tmp_path / "t.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        posted.load(path)


# The command


def test_one_name_is_not_enough(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["compare", "llama"])
    with pytest.raises(SystemExit):
        command.main()
    assert "expected the names of two different runs or more" in capsys.readouterr().err
