"""Raw votes become battles, duplicates or quarantine; none is lost; files are joined."""

import json
import math
import os
import subprocess
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaError

from stages.config.errors import UserError
from stages.votes.battles import COLUMNS, SCHEMA
from stages.votes.labels import LABELS, TARGETS
from stages.votes.parts import join
from stages.votes.quarantine import check_quarantine
from stages.votes.rows import TURNS, WINNERS
from stages.votes.summary import agreement, repeated
from tests.support import forked
from tests.support.places import REAL_VOTES, REPO
from tests.support.raw import frame, kaggle, read, written

REAL = REAL_VOTES.parent


# Rows


@pytest.mark.parametrize(
    ("field", "turns"),
    [
        ('["a\\nb", "ünï", "\\u00e9", "\\ud83d\\ude00"]', ["a\nb", "ünï", "é", "😀"]),
        ('[""]', [""]),
        ('["x", null, "y"]', ["x", "", "y"]),
        ('["cut \\ud83d"]', ["cut \ufffd"]),
        ('["a raw\nnewline"]', ["a raw\nnewline"]),
    ],
)
def test_turns_are_read_from_json_and_no_half_characters_are_left(tmp_path, field, turns):
    rows = [kaggle(1, prompt=field), kaggle(2, "b")]
    battles = frame(written(tmp_path, rows))
    assert battles.prompt[0] == turns
    assert battles.response_a[0] == [""] * (len(turns) - 1) + ["yes"], "one answer is the last"


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("plain text", "prompt is no JSON or Python list of turns"),
        ('{"a": 1}', "prompt is no JSON or Python list of turns"),
        ('["never closed', "prompt is no JSON or Python list of turns"),
        ("[" * 100_000, "prompt is no JSON or Python list of turns"),
        (None, "prompt is no JSON or Python list of turns"),
        ("[1]", "prompt has a turn that is no text"),
        ("[]", "prompt has no turns"),
    ],
)
def test_what_is_no_list_of_turns_among_lists_is_set_aside(tmp_path, field, reason):
    part = written(tmp_path, [kaggle(1), kaggle(2, "b"), kaggle(3, prompt=field)])
    assert part.quarantine.row.tolist() == [3] and part.quarantine.id.tolist() == ["3"]
    assert reason in part.quarantine.reason[0]


@pytest.mark.parametrize("one", ["1", "1.0", "True", "true", 1, 1.0, True])
def test_the_label_is_the_place_of_the_one(tmp_path, one):
    zero = "0" if isinstance(one, str) else type(one)(0)
    rows = [
        kaggle(place, **(dict.fromkeys(WINNERS, zero) | {WINNERS[place]: one}))
        for place in range(3)
    ]
    battles = frame(written(tmp_path, rows))
    assert battles.label.tolist() == [0, 1, 2]
    assert battles[list(TARGETS)].to_numpy().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    "values", [("0", "0", "0"), ("1", "1", "0"), ("1", "", "0"), ("2", "0", "0")]
)
def test_winners_that_are_no_shares_of_one_are_set_aside(tmp_path, values):
    bad = kaggle(3, **dict(zip(WINNERS, values, strict=True)))
    part = written(tmp_path, [kaggle(1), kaggle(2, "b"), bad])
    assert part.quarantine.row.tolist() == [3]
    assert "expected one 1 and two 0" in part.quarantine.reason[0]


def test_every_vote_is_kept_and_only_a_row_repeated_whole_is_a_duplicate(tmp_path):
    pair = {name: f'["{name}"]' for name in TURNS}
    rows = [kaggle(1, **pair), kaggle(2, **pair), kaggle(1, **pair), kaggle(1, "b", **pair)]
    part = written(tmp_path, rows)
    assert frame(part).id.tolist() == ["1", "2", "1#2"]
    assert part.counts["duplicates"] == 1 and part.counts["ids_made_unique"] == 1
    assert part.counts["rows_in"] == part.counts["rows_out"] + 1 == 4


def test_ties_can_be_left_out(tmp_path):
    rows = [kaggle(i, LABELS[i % 3]) for i in range(6)]
    part = written(tmp_path, rows, ties="drop")
    assert frame(part).label.tolist() == [0, 1, 0, 1]
    assert part.counts["dropped"] == part.counts["votes_dropped"] == 2


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
GOOD = st.builds(kaggle, st.integers(0, 9), st.sampled_from(LABELS))
QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICK
@given(bad=st.lists(ROWS, max_size=5), good=st.lists(GOOD, min_size=6, max_size=9))
def test_every_row_ends_in_one_place(tmp_path, bad, good):
    raw = good + bad  # most are good, so that the layout is known
    part = written(tmp_path, raw)
    counts = part.counts
    ends = ("rows_out", "duplicates", "dropped", "quarantined")
    assert counts["rows_in"] == len(raw) == sum(counts[name] for name in ends)
    battles = frame(part)
    assert battles.id.is_unique and counts["votes"] == len(battles)
    assert part.quarantine.row.is_unique


def test_a_column_of_weights_weighs_the_votes(tmp_path):
    rows = [kaggle(i) | {"weight": weight} for i, weight in enumerate((1, 2.5, 0))]
    part = written(tmp_path, rows)
    assert frame(part).weight.tolist() == [1.0, 2.5]
    assert part.quarantine.reason.tolist() == ["weight is 0: expected a number above 0"]


def test_the_schema_refuses_what_no_battle_may_be(tmp_path):
    battles = frame(written(tmp_path, [kaggle(1), kaggle(2, "b")]))
    types = dict.fromkeys(("id", "source", "annotator", "language", "system"), "string")
    battles = battles.astype(types | {"model_a": "string", "model_b": "string"})
    SCHEMA.validate(battles)
    wrongs = {"label": 3, "prompt": [], "response_a": ["a", "b"], "id": "2", "target_a": 0.5}
    for column, value in (wrongs | {"weight": 0.0}).items():
        wrong = battles.copy()
        wrong.at[0, column] = value
        with pytest.raises(SchemaError):
            SCHEMA.validate(wrong)


def test_the_run_stops_only_above_the_allowed_share_or_with_nothing_left():
    bad = pd.DataFrame({"row": [1, 2], "id": ["a", "b"], "reason": ["x", "x"]})
    listed = Path("quarantine.csv")
    check_quarantine(bad, 200, 0.01, listed)
    with pytest.raises(UserError, match=r"2 of 199 rows \(1.01%\)"):
        check_quarantine(bad, 199, 0.01, listed)
    with pytest.raises(UserError, match="2 of 2 rows"):
        check_quarantine(bad, 2, 1.0, listed)


def test_agreement_and_what_it_allows_by_hand(tmp_path):
    pair = {name: f'["{name}"]' for name in TURNS}
    turned = pair | {"response_a": pair["response_b"], "response_b": pair["response_a"]}
    votes = [kaggle(1, **pair), kaggle(2, "b", **turned), kaggle(3, "tie", **pair), kaggle(4, "b")]
    found = agreement(written(tmp_path, votes).battles)
    # Two votes for one answer, in either order, and a tie: one of three couples agrees.
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert found == {
        "pairs": 1,
        "votes": 3,
        "agreement": pytest.approx(1 / 3),
        "entropy": pytest.approx(entropy),
    }


def test_votes_for_one_side_and_ties_alone_are_refused_where_they_cannot_be_dealt(tmp_path):
    part = written(tmp_path, [kaggle(1, "tie"), kaggle(2, "tie")])
    with pytest.raises(UserError, match="found none for A and B among 2"):
        join([part])


# The stages


def run(folder: Path, stage: str = "prepare", *arguments: str, **data: object):
    """Run a stage in a folder of its own, as DVC does."""
    params = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    params["data"] |= data
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    done = subprocess.run(
        [forked.commands() / "python", "-m", f"stages.{stage}", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_stage_writes_battles_quarantine_and_metrics(tmp_path):
    raw = [kaggle(i, LABELS[i % 3]) for i in range(9)]
    raw += [raw[0], kaggle(10, response_b='["x", "y\\ud83d"]'), kaggle(11, prompt="plain")]
    pd.DataFrame(raw).to_csv(tmp_path / "votes.csv", index=False)
    done = run(tmp_path, raw="votes.csv", max_quarantined=0.1)
    assert done.returncode == 0, done.stderr
    assert "votes.csv is taken for kaggle (prompts are lists of turns" in done.stdout
    assert "12 rows, 10 votes (40.0% a, 30.0% b, 30.0% tie)" in done.stdout
    assert "1 rows repeated whole and left out, 1 rows in quarantine" in done.stdout
    table = pq.read_table(tmp_path / "data/prepared/battles.parquet")
    assert table.schema.names == COLUMNS.names
    assert table["response_b"].to_pylist()[-1] == ["x", "y\ufffd"]
    quarantine = pd.read_csv(tmp_path / "data/prepared/quarantine.csv", dtype=str)
    assert quarantine.values.tolist() == [
        ["votes", "12", "11", "prompt is no JSON or Python list of turns"]
    ]
    metrics = json.loads((tmp_path / "metrics/prepare.json").read_text(encoding="utf-8"))
    assert metrics["rows_in"] == 12 and metrics["votes"] == 10 and metrics["padded_turns"] == 2
    assert metrics["share"] == pytest.approx({"a": 0.4, "b": 0.3, "tie": 0.3})
    assert metrics["several_votes"]["pairs"] == 0


def test_the_stage_stops_above_the_limit_and_still_writes_the_quarantine(tmp_path):
    raw = [kaggle(1), kaggle(2, "b"), kaggle(3, prompt="plain"), kaggle(4, winner_tie="1")]
    pd.DataFrame(raw).to_csv(tmp_path / "votes.csv", index=False)
    done = run(tmp_path, raw="votes.csv", max_quarantined=0.25)
    assert done.returncode == 1
    assert "2 of 4 rows (50.00%)" in done.stderr and "allows 25.00%" in done.stderr
    assert "1 times: prompt is no JSON or Python list" in done.stderr
    assert len(pd.read_csv(tmp_path / "data/prepared/quarantine.csv")) == 2
    assert not (tmp_path / "data/prepared/battles.parquet").exists()


def test_several_files_are_joined_with_their_roles(tmp_path):
    own = [kaggle(i, LABELS[i % 3]) for i in range(6)]
    other = [{"id": i, "prompt": f"{i}?", "chosen": "yes", "rejected": "no"} for i in range(8)]
    pd.DataFrame(own).to_csv(tmp_path / "own.csv", index=False)
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, other)), encoding="utf-8")
    files = [{"raw": "other.jsonl", "weight": 0.5, "source": "elsewhere"}]
    pd.DataFrame(own).to_csv(tmp_path / "copy.csv", index=False)
    files.append({"raw": "copy.csv", "training_only": False})
    missing = run(tmp_path, raw="own.csv", auxiliary=files)
    assert missing.returncode == 1 and "data/auxiliary/file0 not found" in missing.stderr
    for key in ("file0", "file1"):
        done = run(tmp_path, "auxiliary", key, raw="own.csv", auxiliary=files)
        assert done.returncode == 0 and "is taken for" in done.stdout, done.stderr
    done = run(tmp_path, raw="own.csv", auxiliary=files)
    assert done.returncode == 0 and "copy.csv: 6 of its 6 votes stand in data.raw" in done.stdout
    assert "other.jsonl:" not in done.stdout
    battles = pd.read_parquet(tmp_path / "data/prepared/battles.parquet")
    assert battles.source.tolist() == ["own"] * 6 + ["elsewhere"] * 8 + ["copy"] * 6
    assert battles.weight.tolist() == [1.0] * 6 + [0.5] * 8 + [1.0] * 6
    assert battles.training_only.tolist() == [False] * 6 + [True] * 8 + [False] * 6
    assert battles.id.is_unique and battles.id[14] == "0#3"
    assert run(tmp_path, "auxiliary", "file2", raw="own.csv", auxiliary=files).returncode == 1


def test_a_file_that_is_listed_twice_is_refused(tmp_path):
    twice = [{"raw": "more.csv"}, {"raw": "./more.csv", "weight": 0.5}]
    for raw, files in (("own.csv", twice), ("more.csv", twice[1:])):
        done = run(tmp_path, raw=raw, auxiliary=files)
        assert done.returncode == 1
        assert "data.auxiliary: " in done.stderr and "found more.csv again" in done.stderr


def test_a_vote_of_another_file_is_repeated_where_pair_and_vote_are_the_same(tmp_path):
    mirrored = {"response_a": '["no"]', "response_b": '["yes"]'}
    first = written(tmp_path, [kaggle(1), kaggle(2, "b"), kaggle(3, "tie")])
    same = [kaggle(9, prompt='["question 1"]'), kaggle(8, prompt='["question 2"]', **mirrored)]
    second = written(tmp_path, [*same, kaggle(3, "b"), kaggle(4)])
    assert repeated([first.battles, second.battles]) == [0, 2]


def test_a_list_of_raw_files_is_refused_with_the_way_out(tmp_path):
    done = run(tmp_path, raw=["a.csv", "b.csv"])
    assert done.returncode == 1 and "list further ones in data.auxiliary" in done.stderr


# Real files


@pytest.mark.parametrize(
    ("name", "layout", "votes", "dealt"),
    [
        ("lmsys_arena_sample.csv.gz", "kaggle", (871, 848, 752), 0),
        ("autoj_testdata_pairwise.jsonl.gz", "auto_j", (520, 499, 373), 0),
        ("pandalm_testset-v1.json.gz", "pandalm", (1255, 1416, 326), 0),
        ("hh_harmless_test.jsonl.gz", "chosen", (None, None, 0), 2312),
        ("llmbar", "llmbar", (206, 213, 0), 0),
    ],
)
def test_no_real_vote_is_lost(name, layout, votes, dealt):
    if not (REAL / name).exists():
        pytest.skip("no real votes beside this checkout")
    part = read(REAL / name)
    battles = part.battles.to_pandas()
    assert part.layout.startswith(layout) and part.quarantine.empty
    assert part.counts["votes_dealt"] == dealt and part.counts["duplicates"] == 0
    counts = battles.label.value_counts()
    for label, count in enumerate(votes):
        assert count is None or counts.get(label, 0) == count, counts
    if layout == "kaggle":
        assert part.counts["null_turns"] == 10 and battles.model_a.isna().sum() == 488
    if layout == "pandalm":
        assert part.counts["values_as_text"] == 6 and len(battles) == 2997
