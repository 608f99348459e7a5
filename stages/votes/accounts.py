"""From a file of raw votes to battles; each row is used, a duplicate, dropped or in quarantine."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow

from stages.config.data import Auxiliary, Data
from stages.config.errors import UserError
from stages.config.teacher import Pairs
from stages.votes.battles import COLUMNS, NAMES, checked, unique
from stages.votes.conversations import clean
from stages.votes.dealing import deal
from stages.votes.files import read_rows
from stages.votes.labels import TARGETS
from stages.votes.layouts import Meanings, Row
from stages.votes.reading import Reader, peek, reader
from stages.votes.recognition import recognise
from stages.votes.rows import BadRow
from stages.votes.verdicts import Verdict, label_of, word

BATCH = 2_000  # rows that are held as Python's objects at once
QUARANTINE = ["source", "row", "id", "reason"]
MENDED = (  # what may have to be put in place for a battle
    "null_turns",
    "padded_turns",
    "replaced_surrogates",
    "values_as_text",
    "images",
    "tool_calls",
    "other_parts",
    "final_answers_only",
    "went_on_differently",
    "ids_made",
    "ids_made_unique",
)


@dataclass(frozen=True)
class Prepared:
    """What became of a file.

    Attributes:
        battles: as stages.votes.battles.COLUMNS has them.
        quarantine: source, row (counted from 1), id and reason of rows that cannot be used.
        counts: rows_in, which is rows_out + duplicates + dropped + quarantined; votes; and more.
        layout: what the file was taken for.
    """

    battles: pyarrow.Table
    quarantine: pd.DataFrame
    counts: dict[str, int]
    layout: str


def prepare(file: Data | Auxiliary, data: Data, seed: int) -> Prepared:
    """Turn the rows of a file into battles.

    Every vote is kept; a row may hold several. Only a row that is repeated whole, its id included,
    is a duplicate. If A is never chosen, or B never, the votes are dealt to A and B at random.

    Args:
        file: data itself, or one of data.auxiliary.
        seed: of the dealing.

    Raises:
        UserError: the file cannot be read, has no rows, or no known layout.
    """
    path = Path(file.raw)
    sample, rows = peek(read_rows(path, file.delimiter, file.encoding))
    if not sample:
        raise UserError(f"{path} holds no rows: expected votes, a row each")
    meanings = Meanings({word(value): m for value, m in file.labels.items()}, data.grades)
    found = recognise(sample, str(path), meanings, file.format, file.mapped)
    account = Account(reader(found, sample), file, data.ties, source_of(file))
    tables = [checked(battles) for battles in _batches(account, rows)]
    battles, dealt = deal(pyarrow.concat_tables([COLUMNS.empty_table(), *tables]), seed)
    quarantine = pd.DataFrame(account.bad, columns=QUARANTINE)
    counts = {**account.counts(), "votes_dealt": dealt}
    return Prepared(battles, quarantine, counts, account.reader.words)


def source_of(file: Data | Auxiliary | Pairs) -> str:
    """The name of a file's votes in the table."""
    path = Path(file.raw)
    return file.source or path.name.removesuffix("".join(path.suffixes)) or path.name


def _batches(account: "Account", rows: Iterable[Row]) -> Iterator[list[dict]]:
    numbered = iter(enumerate(rows, start=1))
    while batch := list(islice(numbered, BATCH)):
        yield [battle for number, row in batch for battle in account.battles(number, row)]


@dataclass
class Account:
    """Where each row of a file ends, and what its battles are."""

    reader: Reader
    file: Data | Auxiliary
    ties: str
    source: str
    bad: list[dict] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    _seen: set[bytes] = field(default_factory=set)
    _ids: set[str] = field(default_factory=set)

    def battles(self, number: int, row: Row) -> list[dict]:
        """The battles of a row; none if it goes elsewhere."""
        self.rows["in"] += 1
        id_ = self.reader.found.other(row, "id")
        mended: Counter[str] = Counter()
        try:
            pair = self.reader.pair(row, mended)
            verdicts = self.reader.found.votes(row)
            weight = self._weight(row)
        except BadRow as error:
            where = (self.source, number, id_, str(error))
            self.bad.append(dict(zip(QUARANTINE, where, strict=True)))
            return []
        if id_ is not None and self._repeated(row):
            self.rows["duplicates"] += 1
            return []
        kept = [v for v in verdicts if self.ties == "keep" or label_of(v.target) != 2]
        self.rows["votes_dropped"] += len(verdicts) - len(kept)
        self.rows["out" if kept else "dropped"] += 1
        self.mended.update(mended)
        others = self._others(row)
        system = pair.system or others["system"]
        of_row = others | vars(pair) | {"system": system, "weight": weight}
        id_ = clean(id_, self.mended) if id_ else self._made(number)
        return [of_row | self._vote(id_, verdict) for verdict in kept]

    def _repeated(self, row: Row) -> bool:
        digest = hashlib.blake2b(repr(row).encode("utf-8", "replace"), digest_size=16).digest()
        if digest in self._seen:
            return True
        self._seen.add(digest)
        return False

    def _made(self, number: int) -> str:
        self.mended["ids_made"] += 1
        return f"{self.source}-{number}"

    def _weight(self, row: Row) -> float:
        given = self.reader.found.other(row, "weight") or "1"
        try:
            weight = float(given)
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf"):
            raise BadRow(f"weight is {given:.20}: expected a number above 0")
        return weight * self.file.weight

    def _others(self, row: Row) -> dict:
        texts = {name: self.reader.found.other(row, name) for name in NAMES}
        known = {name: clean(text, self.mended) for name, text in texts.items() if text is not None}
        return {**dict.fromkeys(NAMES), **known, "training_only": self.file.training_only}

    def _vote(self, id_: str, verdict: Verdict) -> dict:
        wanted = f"{id_}/{verdict.annotator}" if verdict.annotator else id_
        found = unique(wanted, self._ids)
        self.mended["ids_made_unique"] += found != wanted
        return {
            "id": found,
            "source": self.source,
            "label": label_of(verdict.target),
            **dict(zip(TARGETS, verdict.target, strict=True)),
            "both_bad": verdict.both_bad,
            **({"annotator": verdict.annotator} if verdict.annotator else {}),
        }

    def counts(self) -> dict[str, int]:
        """Of rows, which must add up, of votes, and of what was mended."""
        counts = {
            "rows_in": self.rows["in"],
            "rows_out": self.rows["out"],
            "duplicates": self.rows["duplicates"],
            "dropped": self.rows["dropped"],
            "quarantined": len(self.bad),
        }
        rows_in, *ends = counts.values()
        if rows_in != sum(ends):
            raise AssertionError(f"{rows_in} rows became {ends}")
        votes = {"votes": len(self._ids), "votes_dropped": self.rows["votes_dropped"]}
        return counts | votes | {name: self.mended[name] for name in MENDED}
