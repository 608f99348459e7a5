"""Groups of battles that share what a user wrote, or a near-copy of it."""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

# A shorter turn joins nothing by itself: it may be an opener ("Hello, how are you?") or a follow-up
# ("Explain in more detail."). Four or five words ask for something of their own.
SUBSTANCE = 20  # letters and digits
WIDE = 2.5  # as many of them is a Chinese, Japanese or Korean letter: a syllable, or a word


@dataclass(frozen=True)
class Grouping:
    """Groups of battles, and why the largest is one.

    Attributes:
        names: (n,) group of each battle; the same whatever the order of the battles.
        largest: battles of the largest group.
        carriers: battles that carry the text that joins most of these.
        letters: letters and digits of this text.
    """

    names: pd.Series
    largest: int
    carriers: int
    letters: int

    def warning(self) -> str | None:
        """What to know if one group holds most of the battles."""
        if self.largest <= len(self.names) / 2:
            return None
        return (
            f"one prompt group holds {self.largest} of {len(self.names)} battles: {self.carriers} "
            f"of them share a text of {self.letters} letters and digits that the user wrote; if "
            "it is an instruction, give it as the system prompt, which joins nothing"
        )


def find_groups(prompts: pd.Series) -> Grouping:
    """Join battles that share a user turn of substance, or the whole sequence of user turns.

    Args:
        prompts: the user turns of each of at least one battle.
    """
    names: list[str] = []
    ties: list[tuple[int, str, int]] = []
    for battle, turns in enumerate(prompts):
        kept = [normalised(turn) for turn in turns]
        names.append(_name(kept))
        ties.extend((battle, key, letters) for key, letters in _keys(kept).items())
    table = pd.DataFrame(ties, columns=["battle", "key", "letters"])
    component = _components(table, len(names))
    sizes = np.bincount(component)
    joined = table[component[table.battle] == sizes.argmax()]
    commonest = joined.key == joined.key.value_counts().index[0]
    return Grouping(
        pd.Series(names, prompts.index, "string").groupby(component).transform("min"),
        largest=int(sizes.max()),
        carriers=int(commonest.sum()),
        letters=int(joined.letters[commonest].iloc[0]),
    )


def normalised(turn: str) -> str:
    """What is left of a turn without case, width, spaces and punctuation."""
    folded = unicodedata.normalize("NFKC", turn).casefold()
    letters = "".join(filter(_is_letter, folded))
    # A turn of punctuation only is told apart by that.
    return letters or "".join(folded.split())


@cache
def _is_letter(char: str) -> bool:
    """A letter, a digit, or a mark, in which many scripts write vowels."""
    if char.isalnum():
        return True
    variation_selector = "\ufe00" <= char <= "\ufe0f"  # picks the look of an emoji, a symbol
    return unicodedata.category(char) in ("Mn", "Mc") and not variation_selector


def _keys(turns: Sequence[str]) -> dict[str, int]:
    """What joins a battle with normalised turns to others: digests, with the texts' lengths."""
    texts = ["\n".join(turns), *filter(_has_substance, turns)]
    return {_digest(text): len(text) for text in texts}


def _has_substance(turn: str) -> bool:
    return len(turn) >= SUBSTANCE or sum(map(_weight, turn)) >= SUBSTANCE


@cache
def _weight(char: str) -> float:
    return WIDE if unicodedata.east_asian_width(char) == "W" else 1


def _name(turns: Sequence[str]) -> str:
    """A group for a battle that shares no turn; the digest of its first one where that joins."""
    first, all_turns = _digest(turns[0]), _digest("\n".join(turns))
    return first if _has_substance(turns[0]) else first[:8] + all_turns[8:]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _components(ties: pd.DataFrame, battles: int) -> np.ndarray:
    """The component of each battle in the graph of battles and their keys: (battles,)."""
    keys, distinct = pd.factorize(ties.key)
    nodes = battles + len(distinct)
    edges = np.ones(len(ties), dtype=np.int8), (ties.battle, battles + keys)
    graph = sp.coo_matrix(edges, shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1][:battles]
