"""What is counted in a battle, by hand, and with its answers exchanged."""

import pandas as pd
import pytest

from stages.counting.features import contrasts, count_features, exchanged


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
    ab, ba = contrasts(count_features(battle)), contrasts(other)
    assert ab.chars_difference.item() == -ba.chars_difference.item() != 0
    assert ab.chars_difference_absolute.item() == ba.chars_difference_absolute.item()
