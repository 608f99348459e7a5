"""Words of answers in any script, and their TF-IDF."""

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from stages.scoring.text_features import LENGTH, count_words, text_inputs, words
from tests.support.votes import make_votes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is a Snake_case, isn't it?", ["it", "is", "snake_case", "isn", "it"]),
        ("4", ["4"]),
        ("x = 2", ["x", "2"]),
        ("猫と犬", ["猫", "と", "犬", "猫と", "と犬", "猫と犬"]),
        ("An API は", ["an", "api", "は"]),
        ("กิน", ["ก", "ิ", "น", "กิ", "ิน", "กิน"]),
        ("?! 👍", []),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_words_are_those_of_training_answers_only():
    frame = pd.DataFrame({"response_a": [["common"]] * 4, "response_b": [["common rare"]] * 4})
    frame.at[3, "response_b"] = ["unseen unseen"]
    (odd, even), (unseen, _) = text_inputs(frame)(np.array([True, True, True, False]))
    assert odd.shape == even.shape == (3, 2) and unseen.shape == (1, 2)  # common and rare
    assert (even != abs(odd)).nnz == 0 and odd.nnz


def test_it_is_the_tfidf_of_scikit_learn():
    votes = make_votes(100, 0.5)
    (odd, _), _ = text_inputs(votes)(np.full(100, True))
    texts = [turns[0] for side in "ab" for turns in votes[f"response_{side}"]]
    rows = TfidfTransformer(sublinear_tf=True).fit_transform(CountVectorizer().fit_transform(texts))
    assert np.abs(odd - LENGTH * (rows[:100] - rows[100:])).max() < 1e-5


def test_a_word_of_two_texts_is_left_out():
    found, counts = count_words(["one two", "one two", "one", ""])
    assert found == ["one"] and counts.toarray().tolist() == [[1], [1], [1], [0]]
    assert count_words(["", ""])[1].shape == (2, 0)


@pytest.mark.parametrize(
    ("good", "bad"), [("はい、そうです", "いいえ、違います"), ("4", "5"), ("ใช่ครับ", "ไม่ใช่")]
)
def test_answers_of_every_script_are_told_apart(good, bad):
    frame = pd.DataFrame({"response_a": [[good]] * 5, "response_b": [[bad]] * 5})
    (odd, _), _ = text_inputs(frame)(np.full(5, True))
    assert odd.nnz > 0
