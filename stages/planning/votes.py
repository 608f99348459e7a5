"""The votes that a run would read: how many there are, and a sample of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.config.data import Auxiliary, Data
from stages.config.errors import UserError
from stages.config.params import Params
from stages.config.teacher import Pairs
from stages.votes.accounts import Account, source_of
from stages.votes.files import read_rows
from stages.votes.layouts import Meanings, Row
from stages.votes.reading import peek, reader
from stages.votes.recognition import recognise
from stages.votes.rows import TURNS, BadRow
from stages.votes.texts import battle_of, open_file
from stages.votes.verdicts import word

SAMPLE = 1_500  # rows that are parsed and tokenised; of a larger file these are drawn at random


@dataclass(frozen=True)
class Votes:
    """The votes of a file, or pairs without votes.

    Attributes:
        count: of all; reckoned from the sample if it is not whole.
        whole: whether the sample is all of them.
        sample: TURNS and system, and target_tie of votes, a row each.
    """

    count: int
    whole: bool
    sample: pd.DataFrame


def own_votes(params: Params) -> tuple[Votes, list[Votes]]:
    """The run's own votes, at most as many as the scale uses, and what joins every training.

    Raises:
        UserError: a file cannot be read.
    """
    data, rows = params.data, params.budget.rows
    own = [_votes(data, data, params.seed)]
    joined = [_pairs(file, data, params.seed) for file in params.teacher.pairs]
    for file in data.auxiliary:
        found = _votes(file, data, params.seed)
        (joined if file.training_only else own).append(found)
    together = _together(own)
    if rows is not None and rows < together.count:
        together = Votes(rows, False, together.sample)
    return together, joined


def _together(parts: list[Votes]) -> Votes:
    """Files that are all held out, as one."""
    whole = all(part.whole for part in parts)
    sample = pd.concat([part.sample for part in parts], ignore_index=True)
    return Votes(sum(part.count for part in parts), whole, sample)


def _votes(file: Data | Auxiliary, data: Data, seed: int) -> Votes:
    first, rows = peek(read_rows(Path(file.raw), file.delimiter, file.encoding))
    if not first:
        raise UserError(f"{file.raw} holds no rows: expected votes, a row each")
    meanings = Meanings({word(value): m for value, m in file.labels.items()}, data.grades)
    found = recognise(first, file.raw, meanings, file.format, file.mapped)
    account = Account(reader(found, first), file, data.ties, source_of(file))
    drawn, count = draw(rows, SAMPLE, seed)
    battles = [battle for number, row in drawn for battle in account.battles(number, row)]
    return _found(file.raw, battles, len(drawn), count)


def _pairs(file: Pairs, data: Data, seed: int) -> Votes:
    reads, rows = open_file(Path(file.raw), data)
    drawn, count = draw(rows, SAMPLE, seed)
    pairs = []
    for _, row in drawn:
        try:
            pairs.append(dict(battle_of(row, reads)))
        except BadRow:  # `pairs` will set it aside
            continue
    return _found(file.raw, pairs, len(drawn), count)


def _found(place: str, battles: list[dict], drawn: int, rows: int) -> Votes:
    if not battles:
        raise UserError(
            f"{place}: none of {drawn} rows can be read: run `dvc repro prepare`, which says why"
        )
    frame = pd.DataFrame(battles).reindex(columns=[*TURNS, "system", "target_tie"])
    return Votes(round(len(battles) * rows / drawn), drawn == rows, frame)


def draw(rows: Iterable[Row], size: int, seed: int) -> tuple[list[tuple[int, Row]], int]:
    """So many rows, each as likely as any other, with their numbers from 1; and how many there are.

    Source: Vitter 1985, Random Sampling with a Reservoir, algorithm R.
    """
    rng = np.random.default_rng(seed)
    drawn: list[tuple[int, Row]] = []
    number = 0
    for number, row in enumerate(rows, start=1):
        if number <= size:
            drawn.append((number, row))
        elif (place := rng.integers(number)) < size:
            drawn[place] = number, row
    return sorted(drawn, key=lambda each: each[0]), number
