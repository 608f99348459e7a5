"""What a table of votes is made of, and how far people who judge the same pair agree."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute as pc

from stages.votes.labels import LABELS, TARGETS
from stages.votes.rows import TURNS

BATCH = 2_000  # battles that are held as Python's objects at once
Vote = tuple[bytes, tuple[float, ...]]  # a name for a pair, and what is said of it in one order


def describe(battles: pyarrow.Table) -> dict:
    """Class shares of the votes, and how many battles are out of the ordinary."""
    turns = pc.list_value_length(battles["prompt"])
    empty = [pc.equal(pc.list_flatten(battles[name]), "") for name in TURNS[1:]]
    return {
        "share": shares(battles),
        "multi_turn_share": pc.mean(pc.greater(turns, 1).cast("int8")).as_py(),
        "empty_turns": sum(pc.sum(turn).as_py() or 0 for turn in empty),
        "identical_answers": sum(
            batch["response_a"] == batch["response_b"] for batch in _each(battles, *TURNS[1:])
        ),
        "both_bad": pc.sum(battles["both_bad"]).as_py(),
        "votes_by_source": {
            count["values"]: count["counts"]
            for count in battles["source"].value_counts().to_pylist()
        },
    }


def shares(battles: pyarrow.Table) -> dict[str, float]:
    """The share of each class."""
    labels = battles["label"].to_numpy()
    return {name: float((labels == i).mean()) for i, name in enumerate(LABELS)}


def agreement(battles: pyarrow.Table) -> dict:
    """How far votes on one pair of answers to one prompt agree, in whichever order it stands.

    Args:
        battles: turns and targets.

    Returns:
        Of pairs with several votes: pairs, their votes, agreement, the probability that two votes
        on one pair are the same, and entropy, the mean over these votes of the entropy of the votes
        on their pair, in nats. No prediction can have a lower log loss on these votes. The last two
        are None if there are no such pairs.
    """
    found: dict[bytes, list[tuple[float, ...]]] = defaultdict(list)
    for pair, target in _votes(battles):
        found[pair].append(target)
    several = [np.array(votes) for votes in found.values() if len(votes) > 1]
    same = sum(votes.sum(axis=0) @ votes.sum(axis=0) - (votes**2).sum() for votes in several)
    couples = sum(len(votes) * (len(votes) - 1) for votes in several)
    total = sum(map(len, several))
    entropy = sum(len(votes) * _entropy(votes.mean(axis=0)) for votes in several)
    return {
        "pairs": len(several),
        "votes": total,
        "agreement": float(same / couples) if several else None,
        "entropy": float(entropy / total) if several else None,
    }


def repeated(tables: Sequence[pyarrow.Table]) -> list[int]:
    """How many votes of each table stand in an earlier one, too.

    These are the same vote on the same pair of answers to one prompt, in whichever order it stands.
    """
    known: set[Vote] = set()
    counts = []
    for table in tables:
        votes = list(_votes(table))
        counts.append(sum(vote in known for vote in votes))
        known.update(votes)
    return counts


def as_table(rows: pd.DataFrame) -> pyarrow.Table:
    """Turns and targets of a frame of battles, perhaps without ties, for `agreement`."""
    targets = {name: rows.get(name, 0.0) for name in TARGETS}
    return pyarrow.Table.from_pandas(rows[list(TURNS)].assign(**targets), preserve_index=False)


def _votes(battles: pyarrow.Table) -> Iterator[Vote]:
    for battle in _each(battles, *TURNS, *TARGETS):
        pair, mirrored = _pair(battle)
        a, b, tie = (battle[name] for name in TARGETS)
        yield pair, (b, a, tie) if mirrored else (a, b, tie)


def _pair(battle: dict) -> tuple[bytes, bool]:
    """A name for a prompt and its two answers, and whether A is the second of them there."""
    a, b = repr(battle["response_a"]), repr(battle["response_b"])
    text = "\0".join((repr(battle["prompt"]), *sorted((a, b))))
    return hashlib.blake2b(text.encode(), digest_size=16).digest(), a > b


def _entropy(probabilities: np.ndarray) -> float:
    """In nats."""
    known = probabilities[probabilities > 0]
    return float(-(known * np.log(known)).sum())


def _each(battles: pyarrow.Table, *names: str) -> Iterator[dict]:
    for batch in battles.select(names).to_batches(BATCH):
        yield from batch.to_pylist()
