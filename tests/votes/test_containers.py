"""Every container gives the same battles; one that is damaged is named, and says what it lacks."""

import gzip
import json
import os
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.config.errors import UserError
from stages.votes.labels import LABELS
from stages.votes.rows import TURNS, WINNERS
from tests.support.raw import frame, kaggle, read

ROWS = [kaggle(i, vote) for i, vote in enumerate(LABELS)]
# Texts that a reader may take for something else.
ROWS.append(kaggle("007", response_a='["NA"]', response_b='["null; \\"1.0\\", ünï"]'))


def write(path: Path) -> None:
    """The rows in a container, by its ending."""
    table = pd.DataFrame(ROWS)
    ending = path.name.removeprefix("votes").removesuffix(".gz").removesuffix(".zip")
    texts = {
        ".csv": lambda: table.to_csv(index=False),
        ".tsv": lambda: table.to_csv(index=False, sep="\t"),
        ".jsonl": lambda: "\n".join(map(json.dumps, ROWS)),
        ".json": lambda: json.dumps(ROWS, indent=1),
    }
    if ending == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(texts[ending]().encode()))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"inside{ending}", texts[ending]())
    else:
        path.write_text(texts[ending](), encoding="utf-8")


@pytest.fixture
def expected(tmp_path):
    write(tmp_path / "votes.parquet")
    return frame(read(tmp_path / "votes.parquet"))


PLAIN = [".csv", ".tsv", ".jsonl", ".json"]


@pytest.mark.parametrize("ending", [*PLAIN, *(f"{e}{p}" for e in PLAIN for p in (".gz", ".zip"))])
def test_every_container_gives_the_same_battles(tmp_path, expected, ending):
    write(tmp_path / f"votes{ending}")
    found = frame(read(tmp_path / f"votes{ending}"))
    pd.testing.assert_frame_equal(found, expected)
    assert found.response_a[3] == ["NA"] and found.response_b[3] == ['null; "1.0", ünï']
    assert found.id[3] == "007"


def test_a_folder_of_shards_is_one_file(tmp_path, expected):
    folder = tmp_path / "votes"
    folder.mkdir()
    for place in range(2):
        part = pd.DataFrame(ROWS[2 * place : 2 * place + 2])
        part.to_parquet(folder / f"train-0000{place}-of-00002.parquet")
    pd.testing.assert_frame_equal(frame(read(folder)), expected)


def test_a_folder_as_datasets_saves_it_is_read(tmp_path, expected):
    folder = tmp_path / "votes"
    folder.mkdir()
    table = pa.Table.from_pandas(pd.DataFrame(ROWS), preserve_index=False)
    path = folder / "data-00000-of-00001.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    for name in ("dataset_info.json", "state.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    pd.testing.assert_frame_equal(frame(read(folder)), expected)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_encoding_and_delimiter_are_found(tmp_path, expected, encoding, delimiter):
    path = tmp_path / "votes.csv"
    pd.DataFrame(ROWS).to_csv(path, index=False, sep=delimiter, encoding=encoding)
    pd.testing.assert_frame_equal(frame(read(path)), expected)


def test_lists_and_large_numbers_with_gaps_stay_what_they_are(tmp_path):
    ids = pa.array([9_007_199_254_740_993, None])
    lists = {name: pa.array([["one", None], ["two"]]) for name in TURNS}
    winners = {name: pa.array([name == WINNERS[1], name == WINNERS[0]]) for name in WINNERS}
    pq.write_table(pa.table({"id": ids, **lists, **winners}), tmp_path / "votes.parquet")
    part = read(tmp_path / "votes.parquet")
    battles = frame(part)
    assert battles.id.tolist() == ["9007199254740993", "votes-2"]
    assert battles.label.tolist() == [1, 0] and battles.prompt.tolist() == [["one", ""], ["two"]]
    assert part.counts["ids_made"] == 1


def test_bytes_that_are_no_text_are_borne_and_counted(tmp_path):
    path = tmp_path / "votes.csv"
    pd.DataFrame([kaggle(1, response_a='["caf?"]'), kaggle(2, "b")]).to_csv(path, index=False)
    path.write_bytes(path.read_bytes().replace(b"?", b"\xe9"))
    part = read(path)
    assert frame(part).response_a[0] == ["caf\ufffd"] and part.counts["replaced_surrogates"] == 1


def test_a_row_with_too_few_or_too_many_fields_is_set_aside(tmp_path):
    path = tmp_path / "votes.csv"
    pd.DataFrame([kaggle(1), kaggle(2, "b")]).to_csv(path, index=False)
    text = path.read_text(encoding="utf-8")
    path.write_text(f'{text}3,x,y,"[""cut""]"\n{text.splitlines()[1]},more\n', encoding="utf-8")
    quarantine = read(path).quarantine
    assert quarantine.row.tolist() == [3, 4]
    assert "1 more fields than the header" in quarantine.reason[1]


HEADER = ",".join(["id", *TURNS, *WINNERS])


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("votes.csv", None, ["is no file", ".csv, .tsv"]),
        ("votes.xlsx", b"x", ["unknown ending", ".parquet"]),
        ("votes.csv", b"", ["holds no rows"]),
        ("votes.csv.gz", gzip.compress(b""), ["holds no rows"]),
        ("votes.csv", HEADER.encode(), ["holds no rows"]),
        ("votes.csv.gz", gzip.compress(os.urandom(5000))[:4000], ["cannot be read"]),
        ("votes.csv.gz", gzip.compress(b"a" * 9000)[:-20] + b"\0" * 20, ["cannot be read"]),
        ("votes.csv.gz", b"id,prompt\n", ["cannot be read"]),
        ("votes.csv.zip", b"PK no more", ["cannot be read"]),
        ("votes.parquet", b"", ["cannot be read"]),
        ("votes.parquet", b"PAR1 no more", ["cannot be read"]),
        ("votes.arrow", b"ARROW", ["cannot be read"]),
        ("votes.json", b"[1, 2]", ["a row is no object"]),
        ("votes.jsonl", b'{"a": 1}\n{"a": ', ["cannot be read behind row 1"]),
        ("votes.csv", f'{HEADER}\n1,"[""never closed'.encode(), ["cannot be read"]),
        (
            "votes.csv",
            f"{HEADER},prompt\n1,2,3,4,5,6,7,8".encode(),
            ["more than one column prompt"],
        ),
        (
            "votes.csv",
            HEADER.replace("winner_tie", "winner_ties").encode() + b"\n1,2,3,4,5,6,7",
            ["no known layout", "winner_ties", "data.columns"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # workers must agree on them
)
def test_a_file_that_cannot_be_used_is_named_with_what_was_expected(tmp_path, name, content, parts):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read(path)
    for part in (str(path), *parts):
        assert part in str(error.value), error.value


def test_a_folder_of_several_kinds_or_of_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no file of votes"):
        read(tmp_path)
    for ending in (".csv", ".jsonl"):
        write(tmp_path / f"votes{ending}")
    with pytest.raises(UserError, match=r"several kinds \(\.csv, \.jsonl\)"):
        read(tmp_path)
