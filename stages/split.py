"""Stage `split`: stratified folds in which no prompt, nor a near-copy of one, stands twice."""

import hashlib
import json
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from stages.battles import LABELS
from stages.errors import UserError, stage
from stages.params import load

BATTLES = Path("data/prepared/battles.parquet")
FOLDS = Path("data/folds/folds.parquet")
METRICS = Path("metrics/split.json")


def group(prompt: str) -> str:
    """A prompt's group: the hash of its letters and digits, case and width folded."""
    folded = unicodedata.normalize("NFKC", prompt).casefold()
    words = "".join(char for char in folded if char.isalnum())
    return hashlib.sha256((words or prompt.strip()).encode()).hexdigest()[:16]


def draw(groups: pd.Series, rows: int | None, seed: int) -> pd.Series:
    """Which rows to use: whole groups, drawn at random until `rows` are reached (None: all)."""
    if rows is None or rows >= len(groups):
        return pd.Series(True, index=groups.index)
    names = groups.unique()
    np.random.default_rng(seed).shuffle(names)
    reached = groups.value_counts()[names].cumsum()
    return groups.isin(reached.index[reached <= rows])


def assign(labels: np.ndarray, groups: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The fold of each row (scikit-learn's StratifiedGroupKFold, shuffled).

    Raises:
        UserError: a class has fewer rows, or there are fewer groups, than folds.
    """
    counts = {name: int((labels == i).sum()) for i, name in enumerate(LABELS)}
    scarce = min(*counts.values(), len(set(groups)))
    if scarce < k:
        raise UserError(
            f"{k} folds need {k} prompts and {k} votes of each class, found {len(set(groups))} "
            f"prompts and {counts}: list fewer folds in split.folds, or use more rows"
        )
    folds = np.zeros(len(labels), dtype=np.int8)
    splitter = StratifiedGroupKFold(n_splits=k, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        folds[held_out] = fold
    return folds


def shares(folds: pd.DataFrame, labels: np.ndarray) -> dict:
    """Rows, groups and class shares of each fold."""
    return {
        "rows": len(folds),
        "groups": folds.group.nunique(),
        "folds": {
            f"fold_{fold}": {
                "rows": len(rows),
                "share": {
                    name: float((labels[rows.index] == i).mean()) for i, name in enumerate(LABELS)
                },
            }
            for fold, rows in folds.groupby("fold")
        },
    }


@stage
def main() -> None:
    """Read the battles; write the fold of each one that the scale uses."""
    params = load()
    battles = pd.read_parquet(BATTLES, columns=["id", "prompt", "label"])
    groups = battles.prompt.map(lambda turns: group(turns[0])).astype("string")
    used = draw(groups, params.budget.rows, params.seed)
    labels = battles.label[used].to_numpy()
    folds = pd.DataFrame({"id": battles.id[used], "group": groups[used]}).reset_index(drop=True)
    folds["fold"] = assign(labels, folds.group.to_numpy(), len(params.split.folds), params.seed)
    for path in (FOLDS, METRICS):
        path.parent.mkdir(parents=True, exist_ok=True)
    folds.to_parquet(FOLDS, index=False)
    metrics = shares(folds, labels)
    METRICS.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    k = len(params.split.folds)
    print(f"{len(folds)} battles in {metrics['groups']} prompt groups, {k} folds")


if __name__ == "__main__":
    main()
