"""The settings that tuning chose, and those of the other runs, on votes that tuning did not see.

docs/results/elsewhere/lmsys-tuned has a folder for each training with the chosen settings. Its
folds hold out the votes that `split.tuning` has not reserved.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench.study.inner import probabilities_of
from bench.study.restore import PREDICTIONS, Restored, without_seed
from stages.config.errors import UserError
from stages.runs.finished import Result

TUNED = "-sft-tuned-auto-j"  # and the ending of what differs from these in its settings alone:
UNTUNED = "-sft-auto-j"
Probabilities = dict[str, list[np.ndarray]]


def on_unseen_votes(folder: Path, untuned: Restored) -> tuple[Result, Probabilities]:
    """What the tuned and the other trainings of each backbone say of the same votes.

    Args:
        folder: of the tuned runs.
        untuned: the other runs, on these votes and on those that were reserved.

    Returns:
        One of the other runs with the rows of these votes, in the tuned runs' folds; and by name,
        the tuned ones' first, (n, C) of each seed.

    Raises:
        UserError: the other runs lack some of the votes.
    """
    tables = {p.parent.name: pd.read_parquet(p) for p in sorted(folder.glob(f"*/{PREDICTIONS}"))}
    first, base = next(iter(tables.values())), untuned.runs[0]
    folds = base.rows.id.map(first.set_index("id").fold)
    seen = folds.isna().to_numpy()
    if len(base.rows) - seen.sum() != len(first):
        raise UserError(f"{folder}: expected votes of the runs in {UNTUNED}, found others")
    run = replace(base, rows=base.rows[~seen].assign(fold=folds[~seen].astype(int)))
    found: Probabilities = {}
    for name, table in tables.items():
        found.setdefault(without_seed(name), []).append(probabilities_of(run.rows, table))
    for c in untuned.combinations:
        if c.name.endswith(UNTUNED) and c.name.replace(UNTUNED, TUNED) in found:
            found[c.name] = [seed.probabilities("backbone")[~seen] for seed in c.seeds]
    return run, found
