"""Stage `prepare`: parse the raw votes; what cannot be used is set aside and counted."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.battles import (
    LABELS,
    MODELS,
    SCHEMA,
    TURNS,
    BadRow,
    parse_label,
    parse_rounds,
    read_raw,
)
from stages.errors import UserError, stage
from stages.params import load

BATTLES = Path("data/prepared/battles.parquet")
QUARANTINE = Path("data/prepared/quarantine.csv")
METRICS = Path("metrics/prepare.json")
TEXTS = pa.list_(pa.string())


def prepare(raw: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Turn raw rows into battles.

    Exact duplicates (same turns, same label) are kept once; equal battles with other labels are
    votes of their own.

    Returns:
        The battles; the quarantine (row, counted from 1; id; reason); the counts for the metrics.
    """
    good, bad, seen = [], [], set()
    for number, row in enumerate(raw.to_dict("records"), start=1):
        id_ = str(row["id"])
        try:
            if id_ in seen:
                raise BadRow("id stands in an earlier row too")
            battle = {"id": id_, **_models(row), **parse_rounds(row), "label": parse_label(row)}
        except BadRow as error:
            bad.append({"row": number, "id": id_, "reason": str(error)})
            continue
        seen.add(id_)
        good.append(battle)
    keys = [(*(tuple(battle[name]) for name in TURNS), battle["label"]) for battle in good]
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    unique = [battle for place, battle in enumerate(good) if first[keys[place]] == place]
    quarantine = pd.DataFrame(bad, columns=["row", "id", "reason"])
    battles = _frame(unique)
    counts = {
        "rows_in": len(raw),
        "rows_out": len(battles),
        "duplicates": len(good) - len(unique),
        "quarantined": len(quarantine),
    }
    if counts["rows_in"] != sum(list(counts.values())[1:]):
        raise AssertionError(f"rows were lost: {counts}")
    return battles, quarantine, counts | _shares(battles)


def _models(row: dict) -> dict[str, str | None]:
    found = {name: row.get(name) for name in MODELS}
    return {name: None if pd.isna(value) or value == "" else value for name, value in found.items()}


def _frame(battles: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(battles, columns=["id", *MODELS, *TURNS, "label"])
    types = {"id": "string", "model_a": "string", "model_b": "string", "label": "int8"}
    return frame.astype(types)


def _shares(battles: pd.DataFrame) -> dict:
    turns = battles.prompt.map(len)
    answers = pd.concat([battles.response_a, battles.response_b]).explode()
    return {
        "share": {name: float((battles.label == i).mean()) for i, name in enumerate(LABELS)},
        "multi_turn_share": float((turns > 1).mean()),
        "empty_answers": int((answers == "").sum()),
        "identical_answers": int((battles.response_a == battles.response_b).sum()),
    }


def check_quarantine(quarantine: pd.DataFrame, rows: int, limit: float) -> None:
    """Stop when more than the allowed share of rows is bad.

    Raises:
        UserError: with the share, the commonest reasons and where the rows are listed.
    """
    share = len(quarantine) / rows
    if share > limit:
        reasons = Counter(quarantine.reason).most_common(3)
        listed = "\n".join(f"  {count} times: {reason}" for reason, count in reasons)
        raise UserError(
            f"{len(quarantine)} of {rows} rows ({share:.1%}) cannot be used, more than "
            f"data.max_quarantined allows ({limit:.1%}):\n{listed}\nThey are listed in "
            f"{QUARANTINE}: mend the file, or raise data.max_quarantined in params.yaml"
        )


@stage
def main() -> None:
    """Read data.raw; write the battles, the quarantine and their counts."""
    params = load()
    raw = read_raw(Path(params.data.raw))
    battles, quarantine, metrics = prepare(raw)
    for path in (BATTLES, METRICS):
        path.parent.mkdir(parents=True, exist_ok=True)
    quarantine.to_csv(QUARANTINE, index=False)
    check_quarantine(quarantine, len(raw), params.data.max_quarantined)
    SCHEMA.validate(battles)
    table = pa.Table.from_pandas(battles, preserve_index=False)
    for name in TURNS:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table[name].cast(TEXTS))
    pq.write_table(table, BATTLES)
    METRICS.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    print(
        f"{metrics['rows_in']} rows: {metrics['rows_out']} battles, {metrics['duplicates']} "
        f"duplicates, {metrics['quarantined']} in quarantine"
    )


if __name__ == "__main__":
    main()
