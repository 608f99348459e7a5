"""Folds of battles: stratified, and no prompt, nor a near-copy of one, stands in two of them."""

import hashlib
import unicodedata

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from stages.config.errors import UserError
from stages.votes.labels import LABELS


def deal(battles: pd.DataFrame, rows: int | None, k: int, seed: int) -> tuple[pd.DataFrame, dict]:
    """Draw as many battles as are to be used, by whole groups, and deal them into folds.

    Args:
        battles: id, prompt (a list of turns) and label.
        rows: how many at most; None takes all.
        k: number of folds.

    Returns:
        id, group and fold of each battle in use; their metrics, as `describe` gives them.

    Raises:
        UserError: there are fewer groups than folds, with or without regard to class.
    """
    battles = battles.assign(group=groups(battles.prompt))
    used = battles[draw(battles.group, rows, seed)].reset_index(drop=True)
    labels = used.label.to_numpy()
    fold = assign(labels, used.group.to_numpy(), k, seed)
    folds = used[["id", "group"]].assign(fold=fold)
    return folds, describe(folds, labels)


def groups(prompts: pd.Series) -> pd.Series:
    """The group of each battle, by its first prompt."""
    return prompts.map(lambda turns: group(turns[0])).astype("string")


def group(prompt: str) -> str:
    """A prompt's group: the hash of what is left without case, width, spaces and punctuation."""
    folded = unicodedata.normalize("NFKC", prompt).casefold()
    letters = "".join(filter(_is_letter, folded))
    # A prompt of punctuation only is told apart by that.
    kept = letters or "".join(folded.split())
    return hashlib.sha256(kept.encode()).hexdigest()[:16]


def _is_letter(char: str) -> bool:
    """A letter, a digit, or a mark, in which many scripts write vowels."""
    if char.isalnum():
        return True
    variation_selector = "\ufe00" <= char <= "\ufe0f"  # picks the look of an emoji, a symbol
    return unicodedata.category(char) in ("Mn", "Mc") and not variation_selector


def draw(groups: pd.Series, rows: int | None, seed: int) -> pd.Series:
    """Which rows to use: whole groups in random order, as they fit in the number of rows.

    Args:
        groups: group of each row.
        rows: how many rows at most; None takes all.

    Returns:
        A mask over the rows.
    """
    if rows is None or rows >= len(groups):
        return pd.Series(True, index=groups.index)
    sizes = groups.value_counts(sort=False)
    drawn, left = set(), rows
    for place in np.random.default_rng(seed).permutation(len(sizes)):
        size = sizes.iloc[place]
        if size <= left:
            drawn.add(sizes.index[place])
            left -= size
    return groups.isin(drawn)


def assign(labels: np.ndarray, groups: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The fold of each row (scikit-learn's StratifiedGroupKFold, shuffled): (n,) int8.

    Args:
        labels: (n,) 0 = A, 1 = B, 2 = tie.
        groups: (n,) group of each row.
        k: number of folds.

    Raises:
        UserError: there are fewer groups than folds, with or without regard to class.
    """
    found = {name: len(set(groups[labels == i])) for i, name in enumerate(LABELS)}
    if min(found.values()) < k:
        counts = ", ".join(f"{count} for {name}" for name, count in found.items())
        raise UserError(
            f"{k} folds need {k} different prompts with a vote for each of {', '.join(LABELS)}; "
            f"the {len(labels)} battles in use have {counts}: raise or unset `rows` of the scale, "
            "list fewer folds in split.folds, or bring more votes in data.raw"
        )
    folds = np.empty(len(labels), dtype=np.int8)
    splitter = StratifiedGroupKFold(n_splits=k, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        folds[held_out] = fold
    return folds


def describe(folds: pd.DataFrame, labels: np.ndarray) -> dict:
    """Rows, groups and class shares, of all folds and of each.

    Args:
        folds: group and fold of each row.
        labels: (n,) 0 = A, 1 = B, 2 = tie.
    """
    parts = {f"fold_{fold}": folds.fold == fold for fold in sorted(folds.fold.unique())}
    return _shares(folds, labels) | {
        name: _shares(folds[part], labels[part]) for name, part in parts.items()
    }


def _shares(folds: pd.DataFrame, labels: np.ndarray) -> dict:
    share = {name: float((labels == i).mean()) for i, name in enumerate(LABELS)}
    return {"rows": len(folds), "groups": folds.group.nunique(), "share": share}
