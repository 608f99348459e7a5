"""Pairs without votes, which a fold is trained on by what a teacher says of them."""

from collections import Counter
from pathlib import Path

import pandas as pd

from stages.config.data import Data
from stages.config.paths import lesson
from stages.config.teacher import Pairs
from stages.votes.accounts import QUARANTINE, source_of
from stages.votes.battles import unique
from stages.votes.conversations import clean
from stages.votes.groups import find_groups
from stages.votes.rows import TURNS, BadRow
from stages.votes.texts import battle_of, open_file

PAIRS, UNREADABLE = "pairs.parquet", "quarantine.csv"
COLUMNS = ("id", "source", "weight", *TURNS, "system")


def read_pairs(file: Pairs, data: Data) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Read a file as `predict` reads it: any layout of votes, without its votes.

    Args:
        data: how the votes were read; see stages.votes.texts.open_file.

    Returns:
        COLUMNS of each pair, whose id is its row's number where the file has none; source, row, id
        and reason of those that cannot be read; and what the file was taken for.

    Raises:
        UserError: the file is missing, unreadable or empty, or has no known layout.
    """
    reads, rows = open_file(Path(file.raw), data)
    source = source_of(file)
    pairs, bad, taken = [], [], set[str]()
    for number, row in enumerate(rows, start=1):
        id_ = reads.found.other(row, "id") or str(number)
        try:
            battle = battle_of(row, reads)
        except BadRow as error:
            bad.append((source, number, id_, str(error)))
            continue
        id_ = unique(clean(id_, Counter()), taken)
        pairs.append({"id": id_, "source": source, "weight": file.weight, **battle})
    frame = pd.DataFrame(pairs, columns=list(COLUMNS)).astype({"system": "string"})
    return frame, pd.DataFrame(bad, columns=QUARANTINE), reads.words


def all_pairs(files: int) -> pd.DataFrame:
    """What the stage `pairs` wrote of so many files."""
    found = [pd.read_parquet(lesson("pairs", f"file{place}") / PAIRS) for place in range(files)]
    return pd.concat(found or [pd.DataFrame(columns=list(COLUMNS))], ignore_index=True)


def beside(pairs: pd.DataFrame, battles: pd.DataFrame, fold: int) -> pd.DataFrame:
    """The pairs that a fold may be trained on, with their prompt groups.

    Pairs and votes are grouped together. Pairs of a group with a held-out vote are left out.

    Args:
        battles: prompt, group and fold of all votes in use.
    """
    if pairs.empty:
        return pairs.assign(group=pd.Series(dtype="string"))
    joint = find_groups(pd.concat([battles.prompt, pairs.prompt], ignore_index=True)).names
    of_votes, of_pairs = joint[: len(battles)].to_numpy(), joint[len(battles) :].to_numpy()
    # The name by which the votes' folds know a group.
    known = dict(zip(of_votes[::-1], battles.group[::-1], strict=True))
    held_out = set(of_votes[battles.fold == fold])
    groups = pd.Series([known.get(name, name) for name in of_pairs], pairs.index, "string")
    return pairs.assign(group=groups)[[name not in held_out for name in of_pairs]]
