"""Folds of battles: whole groups, stratified by class."""

import numpy as np
import pandas as pd

from stages.config.errors import UserError
from stages.votes.labels import LABELS, Votes, votes_of

ONLY_TRAINED = -1  # the fold of battles that are held out in none


def deal(battles: pd.DataFrame, rows: int | None, k: int, seed: int) -> tuple[pd.DataFrame, dict]:
    """Draw as many battles as are to be used, by whole groups, and deal them into folds.

    Battles that are only trained on are all used, and count neither for `rows` nor in the metrics.

    Args:
        battles: id, group, targets, weight, and training_only if some are only trained on.
        rows: how many at most; None takes all.
        k: number of folds.

    Returns:
        id, group and fold of each battle in use; their metrics, as `describe` gives them.

    Raises:
        UserError: there are fewer groups than folds, with or without regard to class.
    """
    only_trained = battles.get("training_only", pd.Series(False, battles.index))
    dealt = battles[~only_trained]
    dealt = dealt[draw(dealt.group, rows, seed)]
    votes = votes_of(dealt)
    fold = pd.Series(assign(votes.labels, dealt.group.to_numpy(), k, seed), dealt.index)
    used = battles.index.isin(dealt.index) | only_trained
    folds = battles.loc[used, ["id", "group"]].assign(fold=fold)
    folds = folds.fillna({"fold": ONLY_TRAINED}).astype({"fold": "int8"}).reset_index(drop=True)
    return folds, describe(folds[folds.fold >= 0], votes)


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
    """The fold of each row, as scikit-learn's StratifiedGroupKFold shuffles them: (n,) int8.

    Args:
        labels: (n,) 0 = A, 1 = B, 2 = tie.
        groups: (n,) group of each row.
        k: number of folds.

    Raises:
        UserError: there are fewer groups than folds, with or without regard to class.
    """
    group, names = pd.factorize(groups, sort=True)
    counts = np.zeros((len(names), 3 if (labels == 2).any() else 2))  # of the classes that occur
    np.add.at(counts, (group, labels), 1)
    _check(counts, k)
    order = np.arange(len(names))
    np.random.RandomState(seed).shuffle(order)
    # Those that are hardest to balance come first.
    order = order[np.argsort(-counts[order].std(axis=1), kind="stable")]
    folds = np.empty(len(names), dtype=np.int8)
    folds[order] = _dealt(counts[order], k)
    return folds[group]


def _check(counts: np.ndarray, k: int) -> None:
    """Refuse fewer groups (a row each) with a vote for a class (a column) than folds."""
    found = dict(zip(LABELS, (counts > 0).sum(axis=0), strict=False))
    if min(found.values()) >= k:
        return
    shown = ", ".join(f"{count} for {name}" for name, count in found.items())
    ties = ", or leave out ties with `-S data.ties=drop`" if found.get("tie", k) < k else ""
    raise UserError(
        f"{k} folds need {k} prompt groups with a vote for each of {', '.join(found)}; the "
        f"{counts.sum():.0f} battles in use have {shown}: raise or unset `rows` of the scale, list "
        f"fewer folds in split.folds, or bring more votes in data.raw{ties}"
    )


def _dealt(counts: np.ndarray, k: int) -> np.ndarray:
    """The fold of each group, one after another, each where it leaves the classes most even.

    Args:
        counts: (groups, classes) votes of each group.

    Source: Jakub Wąsikowski, in scikit-learn's StratifiedGroupKFold. That takes minutes for 100,000
    groups, this takes seconds.
    """
    total, held = counts.sum(axis=0), np.zeros((k, counts.shape[1]))
    folds = np.empty(len(counts), dtype=np.int8)
    alone = np.eye(k)[:, :, None]  # for each fold, that one of all
    for place, group in enumerate(counts):
        unevenness = ((held + alone * group) / total).std(axis=1).mean(axis=1)
        folds[place] = fold = _best(unevenness.tolist(), held.sum(axis=1).tolist())
        held[fold] += group
    return folds


def _best(unevenness: list[float], rows: list[float]) -> int:
    """The fold of least unevenness; of those that are about equal, the one with fewest rows."""
    best = 0
    for fold, value in enumerate(unevenness):
        least = unevenness[best]
        # np.isclose, which scikit-learn takes, for two numbers
        close = abs(value - least) <= 1e-8 + 1e-5 * abs(least)
        if value < least or (close and rows[fold] < rows[best]):
            best = fold
    return best


def describe(folds: pd.DataFrame, votes: Votes) -> dict:
    """Rows, groups and class shares, of all folds and of each, and the largest group.

    Args:
        folds: group and fold of each row.
    """
    largest = int(folds.group.value_counts().iloc[0])
    parts = {f"fold_{fold}": folds.fold == fold for fold in sorted(folds.fold.unique())}
    return {
        **_shares(folds, votes),
        "largest_group": {"rows": largest, "share": largest / len(folds)},
        **{name: _shares(folds[part], votes[part.to_numpy()]) for name, part in parts.items()},
    }


def _shares(folds: pd.DataFrame, votes: Votes) -> dict:
    share = dict(zip(LABELS, votes.shares.tolist(), strict=True))
    return {"rows": len(folds), "groups": folds.group.nunique(), "share": share}
