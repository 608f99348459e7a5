"""Features and baselines: hand counts, exchange of the answers, leakage, and real votes."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import baselines, prepare, split
from stages.config.params import Evaluate
from stages.counting.features import contrasts, count_features, exchanged, length_design
from stages.votes.labels import MIRRORED
from tests.support.places import REPO
from tests.support.votes import make_folds, make_votes

SETTINGS = Evaluate(draws=500, confidence=0.95, equivalence=0.005, calibration="none", rules=False)


@pytest.fixture
def battle() -> pd.DataFrame:
    """One battle of two turns with marks of every kind."""
    a = ["## Title\n\nUse **two** things:\n- one\n- two\n\n```python\nx = 1\n```", "I'm sorry, 42!"]
    b = ["1. Yes?\n2) `no` | 真", "See https://example.org (or not)."]
    return pd.DataFrame({"prompt": [["Why 7?", "And\nthen"]], "response_a": [a], "response_b": [b]})


def test_counts_by_hand(battle):
    row = count_features(battle).iloc[0]
    expected = {
        "prompt_turns": 2,
        "prompt_chars": len("Why 7?\n\nAnd\nthen"),
        "prompt_digits": 1,
        "prompt_newlines": 3,
        "bullets_a": 2,
        "headings_a": 1,
        "bold_a": 1,
        "code_blocks_a": 2,
        "apologies_a": 1,
        "first_person_a": 1,
        "digits_a": 3,
        "exclamation_marks_a": 1,
        "bullets_b": 0,
        "numbered_b": 2,
        "code_spans_b": 1,
        "table_cells_b": 1,
        "non_ascii_b": 1,
        "links_b": 1,
        "brackets_b": 3,
        "question_marks_b": 1,
    }
    assert row[list(expected)].to_dict() == expected


def test_empty_answers_count_as_nothing():
    empty = pd.DataFrame({"prompt": [[""]], "response_a": [[""]], "response_b": [["", ""]]})
    row = count_features(empty).iloc[0]
    assert row.drop(["prompt_turns", "chars_b", "newlines_b", "paragraphs_b"]).eq(0).all()


def test_exchanged_features_are_those_of_the_exchanged_battle(battle):
    names = {"response_a": "response_b", "response_b": "response_a"}
    other = count_features(battle.rename(columns=names))
    pd.testing.assert_frame_equal(exchanged(count_features(battle)), other)
    for design in (contrasts, length_design):
        ab, ba = design(count_features(battle)), design(other)
        assert ab.chars_difference.item() == -ba.chars_difference.item() != 0
        assert ab.chars_difference_absolute.item() == ba.chars_difference_absolute.item()
    assert length_design(other).shape == (1, 5)


def test_class_prior_is_that_of_the_other_folds():
    labels, folds = np.array([0, 0, 1, 2, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
    prior = baselines.class_prior(labels, folds)
    assert prior[0] == pytest.approx([0, 2 / 3, 1 / 3], abs=1e-5)
    assert prior[5] == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-5)
    assert (prior > 0).all()


def test_baselines_find_a_planted_effect_and_nothing_in_noise():
    folds = make_folds(600)
    for effect in (1.0, 0.0):
        votes = make_votes(600, effect)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # none reaches the user: the fits converge
            predictions = baselines.predict_baselines(votes, count_features(votes), folds)
        table = baselines.summary(
            votes.label.to_numpy(), predictions, np.arange(600), SETTINGS, seed=0
        )
        assert list(table) == ["prior", "length", "counts", "tfidf", "tfidf_counts"]
        assert table["prior"]["gain_over_prior_high"] == 0
        for name in ("length", "counts", "tfidf_counts"):
            low = table[name]["gain_over_prior_low"]
            assert low > 0.05 if effect else low < 0.01


def test_predictions_mirror_when_the_answers_are_exchanged():
    votes, folds = make_votes(300, 0.5), make_folds(300)
    other = votes.rename(columns={"response_a": "response_b", "response_b": "response_a"})
    other["label"] = np.array(MIRRORED)[votes.label]
    first, second = (
        baselines.predict_baselines(frame, count_features(frame), folds) for frame in (votes, other)
    )
    for name in set(first) - {"prior"}:
        mirrored = second[name][:, MIRRORED]
        assert first[name] == pytest.approx(mirrored, abs=2e-3), name


def test_a_fold_is_predicted_without_its_own_labels():
    votes, folds = make_votes(200, 0.5), make_folds(200)
    spoilt = votes.assign(label=np.where(folds == 0, (votes.label + 1) % 3, votes.label))
    held_out = folds == 0
    first, second = (
        baselines.predict_baselines(frame, count_features(frame), folds)
        for frame in (votes, spoilt)
    )
    for name in first:
        assert (first[name][held_out] == second[name][held_out]).all(), name


def test_words_are_those_of_training_answers_only():
    frame = pd.DataFrame({"response_a": [["common"]] * 4, "response_b": [["common rare"]] * 4})
    frame.at[3, "response_b"] = ["unseen unseen"]
    inputs = baselines.text_inputs(frame)
    ab, ba = inputs(np.array([True, True, True, False]))
    assert ab.shape[1] == 2 * 2  # common and rare, signed and absolute
    assert abs(ab + ba)[:, :2].sum() == 0


def test_real_votes_give_the_log_losses_of_the_first_trial(real_votes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    raw |= {"scale": "sample", "split": {"folds": [0, 1, 2, 3, 4]}}
    raw["data"]["raw"] = str(real_votes)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    for module in (prepare, split, baselines):
        module.main()
    metrics = json.loads((tmp_path / "metrics/baselines.json").read_text(encoding="utf-8"))
    losses = {name: row["log_loss"] for name, row in metrics.items()}
    trial = {"length": 1.0608, "counts": 1.0464, "tfidf": 1.0875, "tfidf_counts": 1.0392}
    assert losses["prior"] == pytest.approx(1.0973, abs=0.002)
    for name, loss in trial.items():
        assert loss - 0.03 < losses[name] < loss + 0.006, (name, losses)
    assert losses["tfidf_counts"] < losses["counts"] < losses["length"] < losses["prior"]
