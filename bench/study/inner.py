"""What was tried on votes that no fold of the runs evaluates: votes from elsewhere, and rates.

docs/results/inner has a folder for each training, with what it predicted of these votes, and for
each backbone the trials of `python -m stages.tune` as it recorded them.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from bench.study.figures import markdown
from bench.study.restore import FOLDER, PREDICTIONS, battles_of
from stages.pages.tables import minus
from stages.scoring.predictions import order_probabilities
from stages.scoring.scores import example_losses, right
from stages.tuning.inner import Inner

TRIED = FOLDER / "inner"
ALONE = "gemma-sft"  # trained on the votes of the set alone


def sources(raw: Path) -> str:
    """Each training by the votes that it had beside the set's own.

    Differences are from the training without any, with their standard error over prompt groups.

    Args:
        raw: the file of LMSYS votes.

    Raises:
        UserError: see bench.study.restore.battles_of.
    """
    trainings = sorted(path.parent for path in TRIED.glob(f"*/{PREDICTIONS}"))
    predicted = {run.name: pd.read_parquet(run / PREDICTIONS) for run in trainings}
    battles = battles_of(raw, predicted[ALONE][["id"]], TRIED / ALONE)
    inner = Inner(battles.iloc[:0], battles)
    said = {name: probabilities_of(battles, table) for name, table in predicted.items()}
    losses = {name: example_losses(inner.votes, p) for name, p in said.items()}
    rows = []
    for run in sorted(trainings, key=lambda run: -inner.votes.mean(losses[run.name])):
        own, apart = losses[run.name], losses[run.name] - losses[ALONE]
        facts = json.loads((run / "folds.json").read_text(encoding="utf-8"))[0]
        difference = "" if run.name == ALONE else _with_error(inner.mean(apart), signed=True)
        accuracy = f"{right(inner.votes, said[run.name]).mean():.3f}"
        rows.append(
            (run.name, f"{facts['examples']:,}", _with_error(inner.mean(own)), accuracy, difference)
        )
    return markdown(("votes to train on", "log loss", "accuracy", f"minus that of {ALONE}"), rows)


def rates() -> str:
    """The best trial of each backbone, and how many were stopped early or are as good."""
    rows = []
    for path in sorted(TRIED.glob("*.csv")):
        trials = pd.read_csv(path)
        complete = trials[trials.state == "complete"].sort_values("log_loss")
        best = complete.iloc[0]
        as_good = (complete.log_loss < best.log_loss + best.standard_error).sum() - 1
        counts = (len(trials), (trials.state == "stopped").sum(), as_good)
        loss = _with_error((best.log_loss, best.standard_error))
        rank = f"{best['train.lora.r']:.0f}"
        rows.append((path.stem, f"{best.lr:g}", rank, loss, *map(str, counts)))
    header = ("best rate", "rank", "log loss", "trials", "stopped early", "others within one error")
    return markdown(header, rows)


def probabilities_of(battles: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    """Of the votes in the order of the battles, both orders averaged: (n, C)."""
    ab, ba = order_probabilities(battles[["id"]].merge(table, on="id", validate="1:1"))
    return (ab + ba) / 2


def _with_error(found: tuple[float, float], signed: bool = False) -> str:
    mean, error = found
    return minus(f"{mean:{'+' if signed else ''}.4f} ± {error:.4f}")
