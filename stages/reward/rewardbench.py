"""How often the better of two answers gets the higher score, by subset: RewardBench's accuracy."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm
from tqdm.auto import tqdm

from stages.config.data import Data
from stages.config.errors import UserError
from stages.reward.scorer import Scorer
from stages.votes.rows import TURNS, BadRow, blank
from stages.votes.texts import battle_of, open_file

CONFIDENCE = 0.95
PART = 64  # pairs that are scored together
ROUNDING = 1e-6  # two scores that are no farther apart are equal
WITHOUT = "no subset"  # of rows that name none


@dataclass(frozen=True)
class Pairs:
    """A file of chosen and rejected answers.

    Attributes:
        battles: row, subset, system, and TURNS; answer A is the chosen one.
        unreadable: row and reason of the rows that cannot be read.
    """

    battles: pd.DataFrame
    unreadable: list[dict]


def read_pairs(path: Path, data: Data) -> Pairs:
    """Read a file.

    Args:
        data: how the votes were read; see stages.votes.texts.open_file.

    Raises:
        UserError: it is missing or empty, has other columns, or too many rows cannot be read.
    """
    reads, rows = open_file(path, data)
    if reads.found.name != "chosen":
        raise UserError(
            f"{path} is taken for {reads.words}: expected the columns prompt, chosen and rejected "
            "of RewardBench, and subset where there are several"
        )
    battles, unreadable = [], []
    for number, row in enumerate(rows, start=1):
        subset = WITHOUT if blank(row.get("subset")) else str(row["subset"])
        try:
            battles.append({"row": number, "subset": subset, **battle_of(row, reads)})
        except BadRow as error:
            unreadable.append({"row": number, "reason": str(error)})
    total = len(battles) + len(unreadable)
    if not battles or len(unreadable) > data.max_quarantined * total:
        raise UserError(
            f"{path}: {len(unreadable)} of {total} rows cannot be read, and data.max_quarantined "
            f"allows {data.max_quarantined:.2%}. Row {_told(unreadable[0])}"
        )
    return Pairs(pd.DataFrame(battles, columns=["row", "subset", "system", *TURNS]), unreadable)


def margins(battles: pd.DataFrame, scorer: Scorer) -> np.ndarray:
    """By how much the chosen answer's score is the higher one: (n,); see Pairs.battles.

    Returns:
        The difference of the rewards; where single answers have none, that of the win rates.
    """
    parts = [battles[start : start + PART] for start in range(0, len(battles), PART)]
    return np.concatenate([_margins(part, scorer) for part in tqdm(parts, "score", unit="part")])


def _margins(battles: pd.DataFrame, scorer: Scorer) -> np.ndarray:
    if not scorer.alone:
        return 2 * scorer.win_rates(battles) - 1
    sides = [battles[["system", "prompt"]].assign(response=battles[name]) for name in TURNS[1:]]
    chosen, rejected = np.split(scorer.rewards(pd.concat(sides)), 2)
    return chosen - rejected


def accuracies(subsets: pd.Series, found: np.ndarray) -> dict:
    """Accuracies by subset, in the order of the file, and over all pairs.

    Args:
        subsets: (n,) of each pair.
        found: (n,) as `margins` gives them.
    """
    by_subset = {name: accuracy(found[subsets == name]) for name in subsets.unique()}
    return {"subsets": by_subset, "all": accuracy(found)}


def accuracy(found: np.ndarray) -> dict[str, float]:
    """The share of pairs whose chosen answer has the higher score; equal scores count half.

    Returns:
        pairs, ties (pairs of equal scores), accuracy, and the low and high end of its interval.
    """
    ties = np.abs(found) <= ROUNDING
    right = float((found > ROUNDING).sum() + ties.sum() / 2)
    low, high = wilson(right, len(found))
    counts = {"pairs": len(found), "ties": int(ties.sum())}
    return {**counts, "accuracy": right / len(found), "low": low, "high": high}


def wilson(right: float, total: int) -> tuple[float, float]:
    """The score interval of a share at CONFIDENCE (Wilson 1927).

    scipy's binomtest has it for whole counts alone, and a tie counts half.
    """
    z = norm.ppf((1 + CONFIDENCE) / 2)
    share, spread = right / total, z**2 / total
    middle = share + spread / 2
    half = np.sqrt(spread * (share * (1 - share) + spread / 4))
    return float((middle - half) / (1 + spread)), float((middle + half) / (1 + spread))


def table(found: dict, unreadable: list[dict]) -> str:
    """The accuracies in lines, and what could not be read."""
    rows = {**found["subsets"], "all": found["all"]}
    width = max(map(len, rows))
    head = f"{'':{width}}  pairs  ties  accuracy, {CONFIDENCE:.0%} interval"
    lines = [
        f"{name:{width}}  {row['pairs']:5}  {row['ties']:4}  "
        f"{row['accuracy']:8.4f} [{row['low']:.4f}, {row['high']:.4f}]"
        for name, row in rows.items()
    ]
    return "\n".join([head, *lines, *_left_out(unreadable)])


def _left_out(unreadable: list[dict]) -> Iterator[str]:
    if unreadable:
        yield f"\n{len(unreadable)} rows could not be read and are left out:"
        yield from (f"  row {_told(each)}" for each in unreadable[:5])
    if len(unreadable) > 5:
        yield f"  and {len(unreadable) - 5} more, which --output lists"


def _told(each: dict) -> str:
    return f"{each['row']}: {each['reason']}"
