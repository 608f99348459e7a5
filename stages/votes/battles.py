"""Battles: one prompt, two answers, one vote. Made of raw rows, each of which is accounted for."""

from collections import Counter
from collections.abc import Iterator

import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.parquet as pq

from stages.config.errors import UserError
from stages.config.paths import BATTLES, QUARANTINE
from stages.votes.labels import LABELS, TARGETS
from stages.votes.rows import (
    MODELS,
    TURNS,
    BadRow,
    parse_id,
    parse_label,
    parse_models,
    parse_rounds,
)

COLUMNS = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        *((name, pyarrow.string()) for name in MODELS),
        *((name, pyarrow.list_(pyarrow.string())) for name in TURNS),
        ("label", pyarrow.int8()),
        *((name, pyarrow.float64()) for name in TARGETS),
        ("weight", pyarrow.float64()),
        ("source", pyarrow.string()),
        ("language", pyarrow.string()),
    ]
)


def _turn_lists(column: pd.Series) -> pd.Series:
    return column.map(lambda turns: len(turns) > 0 and all(isinstance(t, str) for t in turns))


def _equal_turns(frame: pd.DataFrame) -> pd.Series:
    turns = frame.prompt.map(len)
    return turns.eq(frame.response_a.map(len)) & turns.eq(frame.response_b.map(len))


SCHEMA = pa.DataFrameSchema(
    {
        "id": pa.Column("string", unique=True),
        **{name: pa.Column("string", nullable=True) for name in MODELS},
        **{name: pa.Column(object, pa.Check(_turn_lists, name="texts")) for name in TURNS},
        "label": pa.Column("int8", pa.Check.isin(range(len(LABELS)))),
        **{name: pa.Column("float64") for name in (*TARGETS, "weight")},
        **{name: pa.Column("string", nullable=True) for name in ("source", "language")},
    },
    strict=True,
    ordered=True,
    checks=pa.Check(_equal_turns, name="as many answers as prompts"),
)


def prepare(raw: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Turn raw rows into battles, each row into exactly one of battle, duplicate or quarantine.

    A row with the turns and the label of an earlier battle is its exact duplicate, whatever its id
    and models, and is dropped. The same turns under another label are another vote, and stay. A row
    that is no duplicate but bears an earlier battle's id goes to quarantine.

    Args:
        raw: what stages.votes.files.read_raw returns.

    Returns:
        The battles; the quarantine (row, counted from 1; id; reason); the metrics.
    """
    kept, bad, ids, votes = [], [], set(), set()
    duplicates, mended = 0, Counter(null_turns=0, padded_turns=0, replaced_surrogates=0)
    for number, row in enumerate(_rows(raw), start=1):
        try:
            battle, mends = _parse(row)
            vote = (*(tuple(battle[name]) for name in TURNS), battle["label"])
            if vote in votes:
                duplicates += 1
                continue
            if battle["id"] in ids:
                raise BadRow("id belongs to an earlier row with another battle")
        except BadRow as error:
            bad.append({"row": number, "id": row["id"], "reason": str(error)})
            continue
        kept.append(battle)
        ids.add(battle["id"])
        votes.add(vote)
        mended.update(mends)
    battles = _frame(kept)
    quarantine = pd.DataFrame(bad, columns=["row", "id", "reason"])
    counts = _count(len(raw), len(battles), duplicates, len(quarantine))
    return battles, quarantine, {**counts, **mended, **describe(battles)}


def _rows(raw: pd.DataFrame) -> Iterator[dict[str, object]]:
    """The rows of a raw frame, one at a time."""
    for values in zip(*(raw[name] for name in raw.columns), strict=True):
        yield dict(zip(raw.columns, values, strict=True))


def _parse(row: dict) -> tuple[dict, Counter]:
    rounds, mended = parse_rounds(row)
    return {"id": parse_id(row), **parse_models(row), **rounds, "label": parse_label(row)}, mended


def _count(rows_in: int, rows_out: int, duplicates: int, quarantined: int) -> dict[str, int]:
    if rows_in != rows_out + duplicates + quarantined:
        raise AssertionError(f"{rows_in} rows became {rows_out} + {duplicates} + {quarantined}")
    return {
        "rows_in": rows_in,
        "rows_out": rows_out,
        "duplicates": duplicates,
        "quarantined": quarantined,
    }


def _frame(battles: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(battles, columns=COLUMNS.names)
    frame = frame.astype({"id": "string", **dict.fromkeys(MODELS, "string"), "label": "int8"})
    for place, name in enumerate(TARGETS):
        frame[name] = (frame.label == place).astype("float64")
    return frame.assign(weight=1.0, source="votes", language=None).astype(
        {"source": "string", "language": "string"}
    )


def describe(battles: pd.DataFrame) -> dict:
    """Class shares of the battles, and how many are out of the ordinary."""
    answers = pd.concat([battles.response_a, battles.response_b])
    return {
        "share": {name: float((battles.label == i).mean()) for i, name in enumerate(LABELS)},
        "multi_turn_share": float((battles.prompt.map(len) > 1).mean()),
        "empty_turns": int(answers.map(lambda turns: turns.count("")).sum()),
        "identical_answers": int((battles.response_a == battles.response_b).sum()),
    }


def check_quarantine(quarantine: pd.DataFrame, rows_in: int, limit: float) -> None:
    """Stop when more than the allowed share of the rows is bad, or all of them.

    Raises:
        UserError: with the share, the commonest reasons and where the rows are listed.
    """
    share = len(quarantine) / rows_in
    if share <= limit and share < 1:
        return
    reasons = Counter(quarantine.reason).most_common(5)
    listed = "\n".join(f"  {count} times: {reason}" for reason, count in reasons)
    raise UserError(
        f"{len(quarantine)} of {rows_in} rows ({share:.2%}) cannot be used, and "
        f"data.max_quarantined allows {limit:.2%}:\n{listed}\nThey are listed in {QUARANTINE}: "
        "mend the file that data.raw names, or raise data.max_quarantined in params.yaml"
    )


def write(battles: pd.DataFrame) -> None:
    """Check the battles against their schema and write them."""
    SCHEMA.validate(battles)
    BATTLES.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pyarrow.Table.from_pandas(battles, COLUMNS, preserve_index=False), BATTLES)
