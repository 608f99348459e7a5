"""Raw votes become battles, duplicates or quarantine; none is lost, and files that fail say why."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pandera.errors import SchemaError

from stages.config.errors import UserError
from stages.votes.battles import SCHEMA, check_quarantine, prepare
from stages.votes.files import read_raw
from stages.votes.labels import LABELS
from stages.votes.rows import TURNS, WINNERS, BadRow, parse_label, parse_rounds
from tests.support.places import REPO

VOTES = {"a": ("1", "0", "0"), "b": ("0", "1", "0"), "tie": ("0", "0", "1")}


def row(id_: object, vote: str = "a", **changed: object) -> dict:
    """A raw row as read from CSV: texts in every column."""
    turns = {"prompt": f'["question {id_}"]', "response_a": '["yes"]', "response_b": '["no"]'}
    models = {"model_a": "x", "model_b": "y"}
    winners = dict(zip(WINNERS, VOTES[vote], strict=True))
    return {"id": str(id_), **models, **turns, **winners, **changed}


def prepared(*raw: dict) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    return prepare(pd.DataFrame(raw, dtype=object))


def rounds(**changed: object) -> dict[str, list[str]]:
    return parse_rounds(row(1, **changed))[0]


# Turns


@pytest.mark.parametrize(
    ("field", "turns"),
    [
        ('["one"]', ["one"]),
        ('["a\\nb", "ünï", "\\u00e9", "\\ud83d\\ude00"]', ["a\nb", "ünï", "é", "😀"]),
        ('[""]', [""]),
        ("[null]", [""]),
        ('["x", null, "y"]', ["x", "", "y"]),
        ('["cut \\ud83d"]', ["cut \ufffd"]),
        ('["\\ude00\\ud83d cut"]', ["\ufffd\ufffd cut"]),
        ('["a raw\nnewline"]', ["a raw\nnewline"]),
        (["a", None], ["a", ""]),
    ],
)
def test_turns_are_read_from_json_and_from_lists(field, turns):
    assert rounds(prompt=field)["prompt"] == turns
    "".join(turns).encode()  # no surrogates are left


def test_answers_get_empty_turns_up_to_the_longest_part():
    found, mended = parse_rounds(row(1, prompt='["p", "q", "r"]', response_a='["a", null]'))
    assert found == {
        "prompt": ["p", "q", "r"],
        "response_a": ["a", "", ""],
        "response_b": ["no", "", ""],
    }
    assert mended == {"null_turns": 1, "padded_turns": 3, "replaced_surrogates": 0}
    assert rounds(response_b="[]")["response_b"] == [""]


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("plain text", "prompt is no JSON list of turns"),
        ('"a text"', "prompt is no JSON list of turns"),
        ('{"a": 1}', "prompt is no JSON list of turns"),
        ('["never closed', "prompt is no JSON list of turns"),
        ("[" * 100_000, "prompt is no JSON list of turns"),
        ("[" + "9" * 5_000 + "]", "prompt is no JSON list of turns"),
        ("", "prompt is no JSON list of turns"),
        (None, "prompt is no JSON list of turns"),
        ("null", "prompt is no JSON list of turns"),
        ("[1]", "prompt has a turn that is no text"),
        ('[["a"]]', "prompt has a turn that is no text"),
        ("[]", "prompt has no turns"),
    ],
)
def test_what_is_no_list_of_turns_is_a_bad_row(field, reason):
    with pytest.raises(BadRow, match=reason):
        rounds(prompt=field)


def test_turns_can_be_parsed_without_votes_as_in_a_test_file(tmp_path):
    path = tmp_path / "test.csv"
    pd.DataFrame([row(1)])[["id", *TURNS]].to_csv(path, index=False)
    raw = read_raw(path, required=("id", *TURNS))
    assert parse_rounds(raw.iloc[0])[0]["response_b"] == ["no"]


# Labels


@pytest.mark.parametrize("one", ["1", "1.0", "True", "true", 1, 1.0, True])
def test_the_label_is_the_place_of_the_one(one):
    zero = "0" if isinstance(one, str) else type(one)(0)
    for place in range(3):
        winners = dict.fromkeys(WINNERS, zero) | {WINNERS[place]: one}
        assert parse_label(winners) == place


@pytest.mark.parametrize(
    "values", [("0", "0", "0"), ("1", "1", "0"), ("1", "", "0"), ("2", "0", "0"), (None, 0, 1)]
)
def test_winners_that_are_not_one_hot_are_a_bad_row(values):
    with pytest.raises(BadRow, match="expected one 1 and two 0"):
        parse_label(dict(zip(WINNERS, values, strict=True)))


# Duplicates and quarantine


def test_battles_keep_ids_models_turns_and_labels():
    ids = ["00123", "12345678901234567890", "a b"]
    raw = [row(i, vote) for i, vote in zip(ids, LABELS, strict=True)]
    raw[1] |= {"model_a": "", "model_b": None}
    battles, quarantine, metrics = prepared(*raw)
    assert battles.id.tolist() == ids and battles.label.tolist() == [0, 1, 2]
    assert battles.model_a.isna().tolist() == [False, True, False]
    assert battles.response_a.tolist() == [["yes"]] * 3
    assert quarantine.empty and metrics["rows_out"] == 3
    assert metrics["share"] == pytest.approx({"a": 1 / 3, "b": 1 / 3, "tie": 1 / 3})
    SCHEMA.validate(battles)


def test_model_names_may_be_missing():
    raw = row(1)
    del raw["model_a"], raw["model_b"]
    battles, _, _ = prepared(raw)
    assert battles.model_a.isna().all() and SCHEMA.validate(battles) is not None


def test_an_exact_duplicate_is_dropped_whatever_its_id_and_other_votes_are_kept():
    turns = {name: f'["{name}"]' for name in TURNS}
    again = {name: f'[ "{name}" ]' for name in TURNS}  # written otherwise, the same turns
    battles, quarantine, metrics = prepared(
        row(1, **turns), row(2, **again), row(1, **turns), row(3, "tie", **turns)
    )
    assert battles.id.tolist() == ["1", "3"] and battles.label.tolist() == [0, 2]
    assert metrics["duplicates"] == 2 and quarantine.empty


def test_of_rows_with_one_id_the_first_good_one_is_kept():
    battles, quarantine, _ = prepared(
        row(1, prompt="broken"), row(1), row(1, prompt='["another"]'), row(2, prompt='["another"]')
    )
    assert battles.id.tolist() == ["1", "2"]
    assert battles.prompt.tolist() == [["question 1"], ["another"]]
    assert quarantine.row.tolist() == [1, 3]
    assert "earlier row" in quarantine.reason[1]


def test_the_quarantine_gives_row_id_and_reason():
    _, quarantine, metrics = prepared(
        row(1), row("", "b"), row(3, winner_tie="1"), row(4, response_b="oops"), row(5)
    )
    assert quarantine.row.tolist() == [2, 3, 4] and quarantine.id.tolist() == ["", "3", "4"]
    for reason, part in zip(quarantine.reason, ("id", "1, 0, 1", "response_b"), strict=True):
        assert part in reason
    assert metrics["quarantined"] == 3 and metrics["rows_in"] == 5


def test_the_run_stops_only_above_the_allowed_share_or_with_nothing_left():
    bad = pd.DataFrame({"row": [1, 2], "id": ["a", "b"], "reason": ["x", "x"]})
    check_quarantine(bad, 200, 0.01)
    with pytest.raises(UserError, match=r"2 of 199 rows \(1.01%\)"):
        check_quarantine(bad, 199, 0.01)
    with pytest.raises(UserError, match="2 of 2 rows"):
        check_quarantine(bad, 2, 1.0)


FIELDS = st.sampled_from(
    ['["x"]', '["y"]', '["x", "y"]', "[null]", '["\\ud83d"]', "[]", "x", "", None, "[1]"]
)
ROWS = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["1", "2", "3", "4", "", None]),
        **dict.fromkeys(TURNS, FIELDS),
        **{name: st.sampled_from(["0", "1", "1.0", "", "x"]) for name in WINNERS},
    }
)
GOOD = st.builds(row, st.integers(0, 9), st.sampled_from(LABELS))


@given(st.lists(ROWS | GOOD, min_size=1, max_size=12))
def test_every_row_becomes_a_battle_a_duplicate_or_quarantine(raw):
    battles, quarantine, metrics = prepared(*raw)
    parts = len(battles) + metrics["duplicates"] + len(quarantine)
    assert len(raw) == metrics["rows_in"] == parts
    assert metrics["rows_out"] == len(battles) and metrics["quarantined"] == len(quarantine)
    assert quarantine.row.is_unique and quarantine.row.between(1, len(raw)).all()
    SCHEMA.validate(battles)
    votes = [(*map(tuple, b[:3]), b[3]) for b in battles[[*TURNS, "label"]].values]
    assert len(set(votes)) == len(votes)


def test_the_schema_refuses_what_no_battle_may_be():
    battles, _, _ = prepared(row(1), row(2))
    for column, value in (("label", 3), ("prompt", []), ("response_a", ["a", "b"]), ("id", "2")):
        wrong = battles.copy()
        wrong.at[0, column] = value
        with pytest.raises(SchemaError):
            SCHEMA.validate(wrong)


# Files


@pytest.mark.parametrize("name", ["votes.csv", "votes.csv.gz", "votes.parquet"])
def test_every_format_gives_the_same_battles(tmp_path, name):
    frame = pd.DataFrame([row(i, vote) for i, vote in enumerate(LABELS)])
    path = tmp_path / name
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
    battles, _, _ = prepare(read_raw(path))
    pd.testing.assert_frame_equal(battles, prepare(frame)[0])


def test_parquet_may_hold_lists_and_large_numbers_with_gaps(tmp_path):
    ids = pa.array([9_007_199_254_740_993, None])
    lists = {name: pa.array([["one", None], ["two"]]) for name in TURNS}
    winners = {name: pa.array([name == WINNERS[1], True]) for name in WINNERS}
    pq.write_table(pa.table({"id": ids, **lists, **winners}), tmp_path / "votes.parquet")
    battles, quarantine, _ = prepare(read_raw(tmp_path / "votes.parquet"))
    assert battles.id.tolist() == ["9007199254740993"] and battles.label.tolist() == [1]
    assert battles.prompt.tolist() == [["one", ""]] and quarantine.row.tolist() == [2]


def test_bytes_that_are_no_text_and_a_byte_order_mark_are_borne(tmp_path):
    path = tmp_path / "votes.csv"
    pd.DataFrame([row(1, response_a='["caf?"]')]).to_csv(path, index=False)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"?", b"\xe9"))
    assert prepare(read_raw(path))[0].response_a[0] == ["caf\ufffd"]


def test_a_row_with_too_few_fields_is_quarantined(tmp_path):
    path = tmp_path / "votes.csv"
    pd.DataFrame([row(1), row(2)]).to_csv(path, index=False)
    path.write_text(path.read_text(encoding="utf-8") + '3,x,y,"[""cut""]"\n', encoding="utf-8")
    assert prepare(read_raw(path))[1].row.tolist() == [3]


HEADER = ",".join(["id", *TURNS, *WINNERS])
LONG = f"{HEADER}\n" + ",".join(["1"] * 9) + "\n"


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("votes.csv", None, ["is no file", "expected a .csv, "]),
        ("votes.xlsx", b"x", ["unknown ending", ".csv.gz"]),
        ("votes.csv", b"", ["is empty", "winner_tie"]),
        ("votes.csv.gz", gzip.compress(b""), ["is empty"]),
        ("votes.csv", HEADER.encode(), ["no rows"]),
        ("votes.csv.gz", gzip.compress(os.urandom(5000))[:4000], ["cannot be read"]),
        ("votes.csv.gz", gzip.compress(b"a" * 9000)[:-20] + b"\0" * 20, ["cannot be read"]),
        ("votes.csv.gz", b"id,prompt\n", ["cannot be read"]),
        ("votes.parquet", b"", ["cannot be read"]),
        ("votes.parquet", b"PAR1 no more", ["cannot be read"]),
        ("votes.csv", f'{HEADER}\n1,"[""never closed'.encode(), ["cannot be read"]),
        ("votes.csv", LONG.encode(), ["more fields than the header"]),
        (
            "votes.csv",
            HEADER.replace("winner_tie", "winner_ties").encode() + b"\n1,2,3,4,5,6,7",
            ["lacks the column 'winner_tie' (nearest: 'winner_ties')", "expected id, prompt"],
        ),
        ("votes.csv", HEADER.replace(",", ";").encode() + b"\n1", ["'id'", "found id;prompt"]),
    ],
    ids=[
        "missing",
        "unknown ending",
        "empty csv",
        "empty gzip",
        "header only",
        "noise cut short",
        "gzip overwritten",
        "csv named gz",
        "empty parquet",
        "broken parquet",
        "open quote",
        "long row",
        "misspelt column",
        "semicolons",
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_was_expected(tmp_path, name, content, parts):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_raw(path)
    for part in (str(path), *parts):
        assert part in str(error.value)


# The stage


def run(folder: Path, raw: str, limit: float) -> subprocess.CompletedProcess:
    """Run the stage in a folder of its own, as DVC does."""
    params = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    params["data"] = {"raw": raw, "max_quarantined": limit}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done


def test_the_stage_writes_battles_quarantine_and_metrics(tmp_path):
    raw = [row(i, LABELS[i % 3]) for i in range(9)]
    raw += [raw[0], row(10, response_b='["x", "y\\ud83d"]'), row(11, prompt="plain")]
    pd.DataFrame(raw).to_csv(tmp_path / "votes.csv", index=False)
    done = run(tmp_path, "votes.csv", 0.1)
    assert done.returncode == 0, done.stderr
    assert "12 rows: 10 battles, 1 duplicates, 1 in quarantine" in done.stdout
    table = pq.read_table(tmp_path / "data/prepared/battles.parquet")
    assert {field.name: str(field.type) for field in table.schema} == {
        **dict.fromkeys(["id", "model_a", "model_b"], "string"),
        **dict.fromkeys(TURNS, "list<element: string>"),
        "label": "int8",
    }
    assert table["response_b"].to_pylist()[-1] == ["x", "y\ufffd"]
    quarantine = pd.read_csv(tmp_path / "data/prepared/quarantine.csv", dtype=str)
    assert quarantine.values.tolist() == [["12", "11", "prompt is no JSON list of turns"]]
    metrics = json.loads((tmp_path / "metrics/prepare.json").read_text(encoding="utf-8"))
    assert metrics == {
        "rows_in": 12,
        "rows_out": 10,
        "duplicates": 1,
        "quarantined": 1,
        "null_turns": 0,
        "padded_turns": 2,
        "replaced_surrogates": 1,
        "share": pytest.approx({"a": 0.4, "b": 0.3, "tie": 0.3}),
        "multi_turn_share": 0.1,
        "empty_turns": 1,
        "identical_answers": 0,
    }


def test_the_stage_stops_above_the_limit_and_still_writes_the_quarantine(tmp_path):
    raw = [row(1), row(2, prompt="plain"), row(3, prompt="plain"), row(4, winner_tie="1")]
    pd.DataFrame(raw).to_csv(tmp_path / "votes.csv", index=False)
    done = run(tmp_path, "votes.csv", 0.5)
    assert done.returncode == 1
    assert "3 of 4 rows (75.00%)" in done.stderr and "allows 50.00%" in done.stderr
    assert "2 times: prompt is no JSON list of turns" in done.stderr
    assert "data/prepared/quarantine.csv" in done.stderr
    assert len(pd.read_csv(tmp_path / "data/prepared/quarantine.csv")) == 3
    assert not (tmp_path / "data/prepared/battles.parquet").exists()


def test_the_stage_names_the_missing_column(tmp_path):
    pd.DataFrame([row(1)]).rename(columns={"prompt": "promt"}).to_csv(
        tmp_path / "votes.csv", index=False
    )
    done = run(tmp_path, "votes.csv", 0.5)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: votes.csv lacks the column 'prompt' (nearest: 'promt'): expected id, prompt"
    )


def test_no_real_vote_is_lost(real_votes):
    raw = read_raw(real_votes)
    battles, quarantine, metrics = prepare(raw)
    assert quarantine.empty and metrics["duplicates"] == 0
    assert battles.id.tolist() == raw.id.tolist() and len(battles) == 2471
    assert battles.label.value_counts().to_dict() == {0: 871, 1: 848, 2: 752}
    assert metrics["null_turns"] == 10 and metrics["identical_answers"] == 22
    assert metrics["multi_turn_share"] == pytest.approx(0.126, abs=0.001)
    assert battles.model_a.isna().sum() == 488
