"""What a plan counts: the votes of real files, their tokens, and what each fold reads."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.config.errors import UserError
from stages.config.params import Params
from stages.model.prompts import template_for
from stages.planning import votes
from stages.planning.speed import Speed
from stages.planning.tokens import CLASSES, Counter, Lengths, lengths
from stages.planning.work import Load, fold, shapes
from tests.support.raw import kaggle


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def changed(params: Params, **sections: dict) -> Params:
    """The params with values of sections in place of their own; `budget` is the scale's."""
    raw = params.model_dump()
    raw["scales"]["smoke"] |= sections.pop("budget", {})
    for name, values in sections.items():
        raw[name] |= values
    return Params.model_validate(raw)


@pytest.fixture
def given(tmp_path, params) -> Params:
    """Params with a file of 60 votes, of which the scale uses all."""
    path = write(tmp_path / "votes.jsonl", [kaggle(i, "ab"[i % 2]) for i in range(60)])
    return changed(params, data={"raw": str(path)}, budget={"rows": None})


# Votes


def test_all_votes_of_a_small_file_are_read(given):
    own, joined = votes.own_votes(given)
    assert (own.count, own.whole, len(own.sample), joined) == (60, True, 60, [])


def test_of_a_large_file_a_sample_is_drawn_and_all_are_counted(given, monkeypatch):
    monkeypatch.setattr(votes, "SAMPLE", 20)
    own, _ = votes.own_votes(given)
    assert (own.count, own.whole, len(own.sample)) == (60, False, 20)


def test_every_row_is_as_likely_to_be_drawn_as_any_other():
    drawn = [votes.draw(({"row": i} for i in range(40)), 10, seed) for seed in range(400)]
    assert {count for _, count in drawn} == {40}
    assert all(len({number for number, _ in rows}) == 10 for rows, _ in drawn)
    assert all(row == {"row": number - 1} for rows, _ in drawn for number, row in rows)
    often = np.bincount([number for rows, _ in drawn for number, _ in rows], minlength=41)[1:]
    assert often.min() > 60 and often.max() < 140  # 100 each, by chance ± 9


def test_the_scale_limits_the_votes(given):
    own, _ = votes.own_votes(changed(given, budget={"rows": 24}))
    assert own.count == 24


def test_votes_from_elsewhere_join_every_training_or_are_votes_like_others(tmp_path, given):
    other = str(write(tmp_path / "other.jsonl", [kaggle(f"o{i}") for i in range(10)]))
    own, [joined] = votes.own_votes(changed(given, data={"auxiliary": [{"raw": other}]}))
    assert (own.count, joined.count) == (60, 10)
    held = {"raw": other, "training_only": False}
    own, joined = votes.own_votes(changed(given, data={"auxiliary": [held]}))
    assert (own.count, joined) == (70, [])


def test_pairs_of_a_teacher_join_every_training(tmp_path, given):
    rows = [{"prompt": "2 + 2?", "response_a": "4", "response_b": str(i)} for i in range(7)]
    pairs = [{"raw": str(write(tmp_path / "pairs.jsonl", rows))}]
    taught = changed(given, teacher={"from": "big", "pairs": pairs})
    assert [each.count for each in votes.own_votes(taught)[1]] == [7]


def test_a_file_that_cannot_be_read_is_refused_in_words(tmp_path, given):
    with pytest.raises(UserError, match="is no file"):
        votes.own_votes(changed(given, data={"raw": str(tmp_path / "none.csv")}))
    bad = write(tmp_path / "bad.jsonl", [kaggle(i, prompt="[]") for i in range(3)])
    with pytest.raises(UserError, match="none of 3 rows can be read: run `dvc repro prepare`"):
        votes.own_votes(changed(given, data={"raw": str(bad), "format": "kaggle"}))


# Tokens


@pytest.mark.parametrize("objective", ["classify", "reward"])
def test_tokens_are_those_that_a_training_reads(battles, params, tiny, tiny_tokenizer, objective):
    chosen = changed(params, train={"objective": objective}, budget={"max_tokens": 200})
    sample = battles[["prompt", "response_a", "response_b"]]
    now, longer = lengths(sample, Counter(tiny(), "tiny"), chosen)
    template = template_for(tiny_tokenizer, chosen, CLASSES)
    encoded = [template.encode(rounds) for rounds in template.tokenize(battles)]
    assert now.kept.tolist() == [len(each) for each in encoded]
    assert now.truncated == np.mean([each.dropped > 0 for each in encoded])
    assert now.truncated > longer.truncated and now.kept.max() <= 200 < longer.kept.max()
    assert (now.kept + now.dropped >= longer.kept).all()


def test_without_a_tokenizer_four_characters_are_a_token(params):
    sample = pd.DataFrame(
        {"prompt": [["x" * 40]], "response_a": [["y" * 80]], "response_b": [["z" * 800]]}
    )
    now, longer = lengths(sample, Counter(None, None), params)
    assert now.kept.tolist() == [128] and now.truncated == 1.0
    assert longer.kept.tolist() == [230] and longer.truncated == 0.0


def test_a_token_attends_to_half_of_its_text():
    assert Lengths(np.array([100]), np.array([0]), 1).span == 50
    assert Lengths(np.array([100]), np.array([0]), 2).span == 25  # two texts of 50 each
    # Of 400 tokens 300 attend to 150 in the mean, and 100 to 50.
    assert Lengths(np.array([300, 100]), np.array([0, 0]), 1).span == 125


# Folds

HUNDRED = Load(100, Lengths(np.array([40, 60]), np.array([0, 0]), 1))


def test_a_fold_by_hand(params):
    five = changed(params, split={"folds": [0, 1, 2, 3, 4]}, budget={"epochs": 3, "batch_size": 16})
    found = fold(HUNDRED, five)
    assert (found.examples, found.held_out) == (80, 20)
    assert found.training == 3 * 80 * 50
    # Both orders at the end, and one order after the first and the second epoch.
    assert found.prediction == (2 + 2) * 20 * 50
    speed = Speed(training=0.01, held_out=0.005, shape=1.0, start=60.0, error=0.1, how="")
    assert found.seconds(speed) == (60, 12_000 * 0.01 + found.shapes, 4_000 * 0.005)


def test_the_shapes_of_rows_are_those_of_batches(params):
    # Rows are multiples of 128 tokens at least. Four votes of 100 tokens are one of 512.
    small = changed(params, budget={"batch_size": 4, "token_budget": 2048, "max_tokens": 1024})
    assert shapes(np.array([100]), small, 4000) == 1
    # Of 400, 700, 1,000, 1,300 or 1,600 tokens: five multiples.
    assert shapes(np.array([100, 400]), small, 1e6) == 5
    # A batch of 16,000 tokens is eight rows of 2,000.
    large = changed(params, budget={"batch_size": 40, "token_budget": 2048, "max_tokens": 1024})
    assert shapes(np.array([400]), large, 1e6) == 1


def test_one_pass_serves_both_orders_of_a_reward_model(params):
    alone = changed(params, train={"objective": "reward"}, budget={"epochs": 1})
    assert fold(HUNDRED, alone).prediction == 50 * 50


def test_reserved_votes_are_trained_on_and_held_out_in_none(params):
    tuned = changed(params, split={"tuning": 0.2}, budget={"epochs": 1})
    found = fold(HUNDRED, tuned)
    assert (found.held_out, found.examples) == (40, 60)


def test_what_joins_is_trained_on_and_held_out_in_none(params):
    joined = Load(100, HUNDRED.lengths, joined=30, joined_tokens=900.0)
    found = fold(joined, changed(params, budget={"epochs": 2}))
    assert (found.examples, found.held_out) == (80, 50)
    assert found.training == 2 * (50 * 50 + 900)


def test_the_votes_that_choose_the_epoch_are_read_and_not_trained_on(params):
    best = changed(params, train={"select": "best", "inner": 0.2}, budget={"epochs": 2})
    found = fold(HUNDRED, best)
    assert found.examples == 40  # 50 less 10
    # Held out: both orders, and one order after each epoch; inner votes: both orders after each.
    assert found.prediction == (50 * (2 + 2) + 10 * 2 * 2) * 50
