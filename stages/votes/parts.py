"""What became of each file of votes, kept beside each other and joined to one table."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.config.data import Auxiliary, Data
from stages.config.errors import UserError
from stages.config.json_files import write_json
from stages.config.paths import auxiliary
from stages.votes.accounts import Prepared
from stages.votes.battles import joined
from stages.votes.labels import LABELS
from stages.votes.prepared import read_battles
from stages.votes.quarantine import set_aside
from stages.votes.summary import agreement, describe, repeated, shares

BATTLES, QUARANTINE, COUNTS = "battles.parquet", "quarantine.csv", "counts.json"


def save(part: Prepared, folder: Path, max_quarantined: float) -> None:
    """Write a part, its quarantine first.

    Raises:
        UserError: too many of its rows cannot be used.
    """
    set_aside(part.quarantine, part.counts["rows_in"], max_quarantined, folder / QUARANTINE)
    pq.write_table(part.battles, folder / BATTLES)
    write_json(folder / COUNTS, {"layout": part.layout, **part.counts})


def read_auxiliary(data: Data) -> list[Prepared]:
    """The parts that the stage `auxiliary` has written, in the order of data.auxiliary.

    Raises:
        UserError: it has not run for one of them.
    """
    return [_read(auxiliary(f"file{place}")) for place in range(len(data.auxiliary))]


def _read(folder: Path) -> Prepared:
    if not (folder / COUNTS).exists():
        raise UserError(f"{folder} not found: run `dvc repro`, which reads data.auxiliary")
    counts = json.loads((folder / COUNTS).read_text(encoding="utf-8"))
    layout = counts.pop("layout")
    quarantine = pd.read_csv(folder / QUARANTINE)
    return Prepared(pq.read_table(folder / BATTLES), quarantine, counts, layout)


def join(parts: Sequence[Prepared]) -> tuple[pyarrow.Table, pd.DataFrame, dict]:
    """One table of all battles, one quarantine, and the metrics of both.

    Raises:
        UserError: there is no vote for A, or none for B.
    """
    battles = joined([part.battles for part in parts])
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
    before = pyarrow.concat_tables([part.battles for part in parts])["id"]
    counts["ids_made_unique"] += pc.sum(pc.not_equal(before, battles["id"])).as_py() or 0
    quarantine = pd.concat([part.quarantine for part in parts], ignore_index=True)
    found = shares(battles)
    if missing := [name.upper() for name in LABELS[:2] if not found[name]]:
        raise UserError(
            f"expected votes for A and for B, found none for {' and '.join(missing)} among "
            f"{len(battles)}: bring more votes in data.raw, or see what data.labels says"
        )
    return battles, quarantine, {**counts, **describe(battles), "several_votes": agreement(battles)}


def ids_by_file(data: Data) -> list[tuple[str, list[str]]]:
    """Each file of votes, with its votes' ids before `join` made them unique among all files."""
    places = [auxiliary(f"file{place}") / BATTLES for place in range(len(data.auxiliary))]
    others = [pq.read_table(place, columns=["id"])["id"].to_pylist() for place in places]
    every = read_battles(["id"]).id.tolist()
    own = every[: len(every) - sum(map(len, others))]  # these come first, and keep their ids
    files = [data.raw, *(file.raw for file in data.auxiliary)]
    return list(zip(files, [own, *others], strict=True))


def tell(path: str, part: Prepared) -> None:
    """Say in a line what a file was taken for, and what came of it."""
    counts, found = part.counts, shares(part.battles)
    votes = ", ".join(f"{found[name]:.1%} {name}" for name in LABELS)
    beside = ", ".join(
        f"{counts[name]:,} {words}" for name, words in BESIDE.items() if counts[name]
    )
    print(
        f"{path} is taken for {part.layout}: {counts['rows_in']:,} rows, {counts['votes']:,} votes "
        f"({votes}){'; ' if beside else ''}{beside}"
    )


def tell_repeated(files: Sequence[Auxiliary], parts: Sequence[Prepared]) -> None:
    """Say in a line how many votes of a file an earlier one has, too; they are kept.

    Args:
        files: data.auxiliary.
        parts: of data.raw and of these, in that order.
    """
    counts = repeated([part.battles for part in parts])
    for file, part, count in zip(files, parts[1:], counts[1:], strict=True):
        if count:
            print(
                f"{file.raw}: {count:,} of its {part.counts['votes']:,} votes stand in data.raw or "
                "in an earlier file of data.auxiliary, too: the same vote on the same two answers "
                "to the same prompt. All are used: if these are copies, and not votes of other "
                "people, leave them out of one file"
            )


BESIDE = {  # what came of a file beside plain votes
    "duplicates": "rows repeated whole and left out",
    "votes_dropped": "ties left out",
    "quarantined": "rows in quarantine",
    "votes_dealt": "votes dealt to A and B at random, since one side always wins",
    "images": "images replaced by a placeholder",
    "tool_calls": "tool calls replaced by a placeholder",
    "other_parts": "other parts replaced by a placeholder",
    "ids_made_unique": "ids made unique",
    "went_on_differently": "conversations that go on differently, joined to the last answer",
}
