"""What would be read wrongly, or not at all, is refused in words: no vote is changed in silence."""

import pyarrow as pa
import pytest

from stages.config.errors import UserError
from tests.support.raw import frame, kaggle, read, written

VOTES = [kaggle(1), kaggle(2, "b")]


def talk(answer, **changed):
    ask = {"role": "user", "content": "Why?"} | changed
    return [ask, {"role": "assistant", "content": answer}]


def arena(winner, **changed):
    sides = {f"conversation_{side}": talk(f"{side} says so", **changed) for side in "ab"}
    return sides | {"winner": winner}


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"columns": {"weight": "wieght"}}, ["weight is wieght", "found the columns id, "]),
        ({"columns": {"response_a": ["response_a", "id"]}}, ["response_a has 2 columns"]),
        ({"columns": {"prompt": []}}, ["prompt has 0 columns"]),
        ({"labels": {"1": "a"}}, ["read as kaggle", "data.labels would mean nothing"]),
    ],
)
def test_params_that_would_mean_nothing_are_refused(tmp_path, settings, parts):
    with pytest.raises(UserError) as error:
        written(tmp_path, VOTES, **settings)
    assert all(part in str(error.value) for part in parts), error.value


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"conversation_a": [], "conversation_b": [], "winner": "model_a"}, "or with none"),
        (arena("model_a", content={"parts": ["Why?"]}), "neither text nor of a known type"),
        (arena("model_a", role=None), "a message without a role"),
        (arena("left"), "winner is 'left'"),
        (arena(["model_a"]), "winner is ['model_a']"),
        (arena("model_a") | {"conversation_b": "text"}, "no list of messages"),
        (arena("model_a") | {"conversation_b": talk("b", content="Other?")}, "different texts"),
    ],
)
def test_a_conversation_that_cannot_be_read_is_set_aside_with_the_reason(tmp_path, bad, reason):
    rows = [bad, arena("model_a"), arena("model_b")]
    part = written(tmp_path, rows)
    assert part.quarantine.row.tolist() == [1] and reason in part.quarantine.reason[0]
    assert frame(part).label.tolist() == [0, 1]


def test_several_rejected_answers_are_no_turns(tmp_path):
    rows = [{"prompt": "Why?", "chosen": ["So."], "rejected": ["No.", "Never.", "Not."]}] * 2
    part = written(tmp_path, rows)
    assert (
        part.quarantine.reason.tolist() == ["rejected has 3 texts to one prompt: expected one"] * 2
    )
    one = [row | {"rejected": ["No."]} for row in rows]
    assert sorted(frame(written(tmp_path, one)).loc[0, ["response_a", "response_b"]]) == [
        ["No."],
        ["So."],
    ]


def test_a_grade_that_the_params_do_not_know_is_set_aside(tmp_path):
    texts = {"prompt": "Why?", "response_1": "So.", "response_2": "No."}
    rows = [texts | {"preference_strength": grade} for grade in (-1.0, "2", 0, 4, 1.5)]
    part = written(tmp_path, rows, grades={1: 0.6, 2: 0.9})
    found = frame(part)[["target_a", "target_b", "target_tie"]].to_numpy().round(6).tolist()
    assert found == [[0.6, 0.4, 0], [0.1, 0.9, 0], [0, 0, 1]]
    assert part.quarantine.row.tolist() == [4, 5] and "data.grades" in part.quarantine.reason[0]


def test_what_datasets_keeps_beside_its_shards_is_not_read(tmp_path):
    table = pa.Table.from_pylist(VOTES)
    for name in ("data-00000-of-00001.arrow", "cache-0123456789abcdef.arrow"):
        path = str(tmp_path / name)
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    assert read(tmp_path).counts["rows_in"] == 2
