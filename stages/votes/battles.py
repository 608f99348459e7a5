"""Battles: one prompt, two answers, one vote. This is the table that `prepare` writes."""

from collections.abc import Iterable

import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.parquet as pq

from stages.config.paths import BATTLES
from stages.votes.labels import LABELS, TARGETS
from stages.votes.rows import MODELS, TURNS

NAMES = ("annotator", "language", *MODELS, "system")  # may be missing
SHARES = (*TARGETS, "weight")
FLAGS = ("both_bad", "training_only")
TEXT = pyarrow.string()
COLUMNS = pyarrow.schema(
    [
        *((name, TEXT) for name in ("id", "source", *NAMES)),
        *((name, pyarrow.list_(TEXT)) for name in TURNS),
        ("label", pyarrow.int8()),
        *((name, pyarrow.float64()) for name in SHARES),
        *((name, pyarrow.bool_()) for name in FLAGS),
    ]
)


def _turn_lists(column: pd.Series) -> pd.Series:
    return column.map(lambda turns: len(turns) > 0 and all(isinstance(t, str) for t in turns))


def _equal_turns(frame: pd.DataFrame) -> pd.Series:
    turns = frame.prompt.map(len)
    return turns.eq(frame.response_a.map(len)) & turns.eq(frame.response_b.map(len))


def _shares_of_one(frame: pd.DataFrame) -> pd.Series:
    return frame[list(TARGETS)].sum(axis=1).sub(1).abs().lt(1e-6)


SCHEMA = pa.DataFrameSchema(
    {
        "id": pa.Column("string", unique=True),
        "source": pa.Column("string"),
        **{name: pa.Column("string", nullable=True) for name in NAMES},
        **{name: pa.Column(object, pa.Check(_turn_lists, name="texts")) for name in TURNS},
        "label": pa.Column("int8", pa.Check.isin(range(len(LABELS)))),
        **{name: pa.Column("float64", pa.Check.in_range(0, 1)) for name in TARGETS},
        "weight": pa.Column("float64", pa.Check.gt(0)),
        **{name: pa.Column("bool") for name in FLAGS},
    },
    strict=True,
    ordered=True,
    checks=[
        pa.Check(_equal_turns, name="as many answers as prompts"),
        pa.Check(_shares_of_one, name="targets that sum to 1"),
    ],
)


def checked(battles: list[dict]) -> pyarrow.Table:
    """Battles as a table, once they are checked against their schema."""
    frame = pd.DataFrame(battles, columns=COLUMNS.names)
    texts = dict.fromkeys(("id", "source", *NAMES), "string")
    types = {
        **texts,
        "label": "int8",
        **dict.fromkeys(SHARES, "float64"),
        **dict.fromkeys(FLAGS, bool),
    }
    SCHEMA.validate(frame.astype(types))
    return pyarrow.Table.from_pylist(battles, COLUMNS)


def joined(tables: Iterable[pyarrow.Table]) -> pyarrow.Table:
    """One table of all battles, in which no id stands twice."""
    table = pyarrow.concat_tables(tables)
    taken: set[str] = set()
    ids = [unique(id_, taken) for id_ in table["id"].to_pylist()]
    return table.set_column(0, COLUMNS.field("id"), pyarrow.array(ids, TEXT))


def unique(id_: str, taken: set[str]) -> str:
    """The id, or ID#2 and so on if it is taken; takes it."""
    found, number = id_, 1
    while found in taken:
        number += 1
        found = f"{id_}#{number}"
    taken.add(found)
    return found


def write(battles: pyarrow.Table) -> None:
    """Write the table."""
    BATTLES.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(battles, BATTLES)
