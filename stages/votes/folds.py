"""Folds of battles: whole groups, stratified by class."""

import numpy as np
import pandas as pd

from stages.config.errors import UserError
from stages.config.params import Params
from stages.votes.groups import find_groups
from stages.votes.labels import LABELS, TARGETS, Votes, votes_of
from stages.votes.prepared import read_battles

ONLY_TRAINED = -1  # the fold of battles that are held out in none: from elsewhere, or reserved


def fold_battles(params: Params) -> tuple[pd.DataFrame, dict, str | None]:
    """The folds of the battles that `prepare` wrote, as params ask for them.

    Returns:
        What `deal` returns, and a warning if one prompt group is very large.

    Raises:
        UserError: as `deal`, or `prepare` has not run.
    """
    battles = read_battles(["id", "prompt", "training_only", "weight", *TARGETS])
    grouping = find_groups(battles.pop("prompt"))
    grouped, split = battles.assign(group=grouping.names), params.split
    rows, k = params.budget.rows, split.dealt
    return *deal(grouped, rows, k, params.seed, split.tuning), grouping.warning()


def deal(
    battles: pd.DataFrame, rows: int | None, k: int, seed: int, tuning: float = 0.0
) -> tuple[pd.DataFrame, dict]:
    """Draw as many battles as are to be used, by whole groups, and deal them into folds.

    Battles that are only trained on are all used, and count neither for `rows` nor in the metrics.

    Args:
        battles: id, group, targets, weight and training_only.
        rows: how many at most; None takes all.
        k: number of folds.
        tuning: share of the drawn battles that is reserved: they are in no fold, and are described
            apart.

    Returns:
        id, group and fold of each battle in use; their metrics, as `describe` gives them.

    Raises:
        UserError: there are fewer groups than folds, with or without regard to class, or none is
            small enough to be reserved.
    """
    dealt = battles[~battles.training_only]
    dealt = dealt[draw(dealt.group, rows, seed)]
    votes, groups = votes_of(dealt), dealt.group.to_numpy()
    held = ~reserve(votes.labels, groups, tuning, seed)
    fold = pd.Series(assign(votes.labels[held], groups[held], k, seed), dealt.index[held])
    used = battles.training_only | battles.index.isin(dealt.index)
    folds = battles.loc[used, ["id", "group"]].assign(fold=fold)
    folds = folds.fillna({"fold": ONLY_TRAINED}).astype({"fold": "int8"}).reset_index(drop=True)
    apart = {} if held.all() else {"tuning": _shares(dealt[~held], votes[~held])}
    return folds, describe(folds[folds.fold >= 0], votes[held]) | apart


def reserve(labels: np.ndarray, groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which rows are reserved for tuning: whole groups, by classes as all rows are.

    Args:
        labels, groups: as in `assign`.
        share: of the rows, about.

    Returns:
        A mask over the rows.

    Raises:
        UserError: no group is small enough.
    """
    if not share:
        return np.zeros(len(labels), dtype=bool)
    group, counts = _tally(labels, groups)
    reserved = _dealt(counts, np.array([1 - share, share]), seed)[group] == 1
    if not reserved.any():
        raise UserError(
            f"split.tuning is {share:g}, too little for a single prompt group of the {len(labels)} "
            "battles in use: raise it"
        )
    return reserved


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
    group, counts = _tally(labels, groups)
    _check(counts, k)
    return _dealt(counts, np.ones(k), seed)[group]


def _tally(labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of each row's group, and the votes of each group by class that occurs."""
    group, names = pd.factorize(groups, sort=True)
    counts = np.zeros((len(names), 3 if (labels == 2).any() else 2))
    np.add.at(counts, (group, labels), 1)
    return group, counts


def _check(counts: np.ndarray, k: int) -> None:
    """Refuse fewer groups (a row each) with a vote for a class (a column) than folds."""
    found = dict(zip(LABELS, (counts > 0).sum(axis=0), strict=False))
    if min(found.values()) >= k:
        return
    shown = ", ".join(f"{count} groups for {name}" for name, count in found.items())
    ties = ", or leave out ties with `-S data.ties=drop`" if found.get("tie", k) < k else ""
    raise UserError(
        f"{k} folds need {k} prompt groups with a vote for each of {', '.join(found)}; the "
        f"{counts.sum():.0f} battles in use have {shown}: raise or unset `rows` of the scale, list "
        f"fewer folds in split.folds, or bring more votes in data.raw{ties}"
    )


def _dealt(counts: np.ndarray, sizes: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each group, one after another, each where it leaves the classes most even.

    Args:
        counts: (groups, classes) votes of each group.
        sizes: (k,) how large each fold is to be, relative to the others.

    Source: Jakub Wąsikowski, in scikit-learn's StratifiedGroupKFold. That takes minutes for 100,000
    groups, this takes seconds.
    """
    order = np.arange(len(counts))
    np.random.RandomState(seed).shuffle(order)
    # Those that are hardest to balance come first.
    order = order[np.argsort(-counts[order].std(axis=1), kind="stable")]
    full, held = sizes[:, None] * counts.sum(axis=0), np.zeros((len(sizes), counts.shape[1]))
    folds = np.empty(len(counts), dtype=np.int8)
    alone = np.eye(len(sizes))[:, :, None]  # for each fold, that one of all
    for place in order:
        unevenness = ((held + alone * counts[place]) / full).std(axis=1).mean(axis=1)
        fold = _best(unevenness.tolist(), (held.sum(axis=1) / sizes).tolist())
        folds[place] = fold
        held[fold] += counts[place]
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
