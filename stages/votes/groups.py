"""Groups of battles that share a user turn, or a near-copy of one: what stands in one fold only."""

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

# A turn of fewer letters and digits joins nothing by itself: it may be an opener ("Hello, how are
# you?") or a follow-up ("explain in more detail"). Four or five words are a question of their own.
SUBSTANCE = 20
WIDE_LETTER = 2.5  # of these: a Chinese, Japanese or Korean letter is a syllable or a word


@dataclass(frozen=True)
class Largest:
    """The largest group, and the text that most of its battles share.

    Attributes:
        rows: battles of the group.
        carriers: battles of it that carry the text.
        letters: letters and digits of the text.
    """

    rows: int
    carriers: int
    letters: int


@dataclass(frozen=True)
class Grouping:
    """The groups of some battles.

    Attributes:
        names: group of each battle, (n,), the same in any order of the battles.
        largest: None without battles.
    """

    names: pd.Series
    largest: Largest | None


def find_groups(prompts: pd.Series) -> Grouping:
    """Join the battles that share a user turn of substance, or all their user turns.

    Args:
        prompts: the user turns of each battle.
    """
    battles, letters, digests, names = [], [], [], []
    for row, turns in enumerate(prompts):
        kept = [normalised(turn) for turn in turns]
        names.append(_name(kept))
        texts = ["\n".join(kept), *(turn for turn in kept if _has_substance(turn))]
        battles.extend([row] * len(texts))
        digests.extend(map(_digest, texts))
        letters.extend(len(text) for text in texts)
    keys, distinct = pd.factorize(np.array(digests, dtype=object))
    component = _components(np.array(battles, dtype=int), keys, len(prompts), len(distinct))
    smallest = pd.Series(names, index=prompts.index, dtype="string")
    smallest = smallest.groupby(component).transform("min")
    return Grouping(smallest, _largest(component, np.array(battles), keys, np.array(letters)))


def normalised(prompt: str) -> str:
    """What is left of a prompt without case, width, spaces and punctuation."""
    folded = unicodedata.normalize("NFKC", prompt).casefold()
    letters = "".join(filter(_is_letter, folded))
    # A prompt of punctuation only is told apart by that.
    return letters or "".join(folded.split())


@cache
def _is_letter(char: str) -> bool:
    """A letter, a digit, or a mark, in which many scripts write vowels."""
    if char.isalnum():
        return True
    variation_selector = "\ufe00" <= char <= "\ufe0f"  # picks the look of an emoji, a symbol
    return unicodedata.category(char) in ("Mn", "Mc") and not variation_selector


def _has_substance(turn: str) -> bool:
    """Whether a normalised turn says enough to join battles by itself."""
    if len(turn) >= SUBSTANCE or not turn:
        return bool(turn)
    return sum(map(_letters, turn)) >= SUBSTANCE


@cache
def _letters(char: str) -> float:
    return WIDE_LETTER if unicodedata.east_asian_width(char) == "W" else 1


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _name(turns: Sequence[str]) -> str:
    """The group of a battle that shares no turn: its first turn's digest, if that joins battles.

    Otherwise half of that digest, and half of the digest of all turns.
    """
    first = _digest(turns[0])
    if len(turns) == 1 or _has_substance(turns[0]):
        return first
    return first[:8] + _digest("\n".join(turns))[:8]


def _components(
    battles: np.ndarray, keys: np.ndarray, n_battles: int, n_keys: int
) -> np.ndarray:
    """The component of each battle in the graph that ties battles to their keys: (n_battles,)."""
    ones, nodes = np.ones(len(battles), dtype=bool), n_battles + n_keys
    graph = sp.coo_matrix((ones, (battles, n_battles + keys)), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1][:n_battles]


def _largest(
    component: np.ndarray, battles: np.ndarray, keys: np.ndarray, letters: np.ndarray
) -> Largest | None:
    if not len(component):
        return None
    sizes = np.bincount(component)
    inside = component[battles] == sizes.argmax()
    carriers = np.bincount(keys[inside])
    commonest = carriers.argmax()
    return Largest(
        int(sizes.max()), int(carriers[commonest]), int(letters[keys == commonest][0])
    )
