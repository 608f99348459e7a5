"""Votes that all name the same side are dealt to A and B, or their order would tell the answer."""

import hashlib

import pyarrow
import pyarrow.compute as pc

from stages.votes.battles import COLUMNS
from stages.votes.labels import TARGETS
from stages.votes.verdicts import label_of

SIDES = (("model_a", "model_b"), ("response_a", "response_b"), TARGETS[:2])


def deal(battles: pyarrow.Table, seed: int) -> tuple[pyarrow.Table, int]:
    """Exchange A and B in half of the battles, at random by their ids, if one is never chosen.

    Returns:
        The battles, and how many were dealt: all or none.
    """
    if len(set(battles["label"].unique().to_pylist()) & {0, 1}) != 1:
        return battles, 0
    swapped = pyarrow.array(
        [_odd(f"{seed}/{id_}") for id_ in battles["id"].to_pylist()], pyarrow.bool_()
    )
    dealt = battles
    for a, b in SIDES:
        dealt = _with(dealt, a, pc.if_else(swapped, battles[b], battles[a]))
        dealt = _with(dealt, b, pc.if_else(swapped, battles[a], battles[b]))
    targets = zip(*(dealt[name].to_pylist() for name in TARGETS), strict=True)
    labels = pyarrow.array(map(label_of, targets), pyarrow.int8())
    return _with(dealt, "label", labels), len(battles)


def _with(battles: pyarrow.Table, name: str, values: pyarrow.Array) -> pyarrow.Table:
    place = COLUMNS.get_field_index(name)
    return battles.set_column(place, COLUMNS.field(place), values)


def _odd(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] % 2 == 1
