"""The shipped runs, evaluated again by the stages' functions on the user's copy of the votes."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from stages.comparison.entries import seeds_together
from stages.comparison.validity import repeated
from stages.config.errors import UserError
from stages.config.params import Evaluate, load
from stages.config.paths import PARAMS
from stages.counting.features import count_features
from stages.runs.finished import Result
from stages.scoring import scores
from stages.scoring.baselines import TITLES, predict_baselines
from stages.scoring.learning import reference
from stages.scoring.metrics import cost, evaluate
from stages.scoring.out_of_fold import all_probabilities, out_of_fold_table
from stages.scoring.predictions import order_probabilities
from stages.votes.accounts import prepare
from stages.votes.groups import find_groups
from stages.votes.labels import with_classes

FOLDER = Path("docs/results")
PREDICTIONS = "predictions.parquet"
TOLERANCE = 0.05  # of the share of training votes: prompt groups stay whole


@dataclass(frozen=True)
class Votes:
    """The votes that the runs were trained on, and what needs no backbone.

    Attributes:
        battles: id, group, fold, the vote and texts.
        features: their counts, from stages.counting.features.
        baselines: (n, 3) out-of-fold probabilities of each baseline.
        md5: of the file of raw votes.
    """

    battles: pd.DataFrame
    features: pd.DataFrame
    baselines: dict[str, np.ndarray]
    md5: str


def without_seed(run: str) -> str:
    """The name of a run's folder without the number at the end."""
    return re.sub(r"-\d+$", "", run)


@dataclass(frozen=True)
class Combination:
    """A checkpoint trained in one way.

    Attributes:
        seeds: a run for each seed of the training, on all training votes of each fold.
        averaged: the mean of their predictions as one run, with the folds and curves of all. With
            one seed, that seed's run.
        smaller: runs on a part of the training votes, by the divisor of the votes: 2 is half.
    """

    seeds: list[Result]
    averaged: Result
    smaller: dict[int, list[Result]]

    @property
    def name(self) -> str:
        """The name of its first seed's folder, without the number at the end."""
        return without_seed(self.seeds[0].name)

    @property
    def title(self) -> str:
        """The heading of what was made of `averaged`."""
        n = len(self.seeds)
        return f"{self.name}, mean of {n} seeds" if n > 1 else self.name

    @property
    def objective(self) -> str:
        return self.seeds[0].params["train"]["objective"]

    @property
    def given(self) -> list[str]:
        """How length and format were given to the backbone, if they were."""
        return self.seeds[0].given

    @property
    def way(self) -> str:
        """How it was trained, whatever the checkpoint."""
        return ", ".join([self.objective, *self.given])


@dataclass(frozen=True)
class Restored:
    """All shipped runs on the same votes in the same folds; combinations from worst to best."""

    runs: list[Result]
    combinations: list[Combination]
    votes: Votes

    @property
    def plain(self) -> list[Combination]:
        """Those that were not given length and format."""
        return [c for c in self.combinations if not c.given]


def read_votes(folder: Path, raw: Path) -> Votes:
    """All votes that any of the shipped runs predicted, in the runs' folds.

    Args:
        folder: a folder in it for each run, with its predictions.parquet, folds.json, curves.csv
            and params.yaml; the runs have the same votes in the same folds.
        raw: a file of raw votes that includes theirs.

    Raises:
        UserError: some of their votes are not in the file.
    """
    runs = _shipped(folder)
    tables = [pd.read_parquet(run / PREDICTIONS, columns=["id", "fold"]) for run in runs]
    predicted = pd.concat(tables).drop_duplicates("id")
    battles = battles_of(raw, predicted, runs[0])
    features = count_features(battles)
    baselines = predict_baselines(battles, features, battles.fold.to_numpy())
    return Votes(battles, features, baselines, hashlib.md5(raw.read_bytes()).hexdigest())


def battles_of(raw: Path, predicted: pd.DataFrame, run: Path) -> pd.DataFrame:
    """The votes with the ids of a table, beside its other columns, and their prompt groups.

    Args:
        run: the folder of one that predicted them. Its seed deals the answers to A and B where one
            side always wins.

    Raises:
        UserError: some of them are not in the file.
    """
    data = load().data.model_copy(update={"raw": str(raw)})
    seed = yaml.safe_load((run / PARAMS).read_text(encoding="utf-8"))["seed"]
    battles = prepare(data, data, seed).battles.to_pandas()
    battles = with_classes(battles.merge(predicted, on="id"))
    if len(battles) < len(predicted):
        raise UserError(
            f"{raw}: expected the {len(predicted)} votes that the shipped runs predicted, found "
            f"{len(battles)} of them by id: name the file that they came from, or one with the "
            "same votes"
        )
    return battles.assign(group=find_groups(battles.prompt).names)


def restore(folder: Path, votes: Votes) -> Restored:
    """Evaluate every run on these votes, and the mean of each combination's seeds.

    Raises:
        UserError: a run lacks some of the votes, or has them in other folds.
    """
    runs = [_read(run, votes) for run in _shipped(folder)]
    return Restored(runs, _combinations(runs, votes), votes)


def _shipped(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{PARAMS}"))


def losses(runs: Sequence[Result], name: str = "backbone") -> np.ndarray:
    """Log loss of each vote by one of each run's predictions: (runs, n)."""
    return np.array([scores.example_losses(run.votes, run.probabilities(name)) for run in runs])


def _read(run: Path, votes: Votes) -> Result:
    shipped = pd.read_parquet(run / PREDICTIONS)
    summaries = json.loads((run / "folds.json").read_text(encoding="utf-8"))
    curves = pd.read_csv(run / "curves.csv")
    rows = votes.battles[["id", "fold"]].merge(shipped, on=["id", "fold"], validate="one_to_one")
    if not len(shipped) == len(rows) == len(votes.battles):
        raise UserError(
            f"{run}: expected a prediction of each of the {len(votes.battles)} votes, in the fold "
            f"that the other runs have it in, found {len(shipped)} predictions, and {len(rows)} fit"
        )
    return _evaluated(
        run.name,
        yaml.safe_load((run / PARAMS).read_text(encoding="utf-8")),
        *order_probabilities(rows),
        rows,
        summaries,
        [curve for _, curve in curves.groupby("fold")],
        votes,
    )


def _evaluated(
    name: str,
    params: dict,
    ab: np.ndarray,
    ba: np.ndarray,
    tokens: pd.DataFrame,
    folds: list[dict],
    curves: list[pd.DataFrame],
    votes: Votes,
) -> Result:
    """What the stage `evaluate` makes of the backbone's probabilities in both orders."""
    settings = Evaluate.model_validate(params["evaluate"])
    probabilities, _ = all_probabilities(votes.battles, ab, ba, votes.baselines, settings)
    start = reference(folds[0].get("offset", False))
    metrics, ladder = evaluate(votes.battles, probabilities, settings, params["seed"], start)
    return Result(
        name=name,
        params=params,
        metrics=metrics | cost(folds, tokens),
        baselines={name: ladder[name] for name in TITLES},
        folds=folds,
        curves=curves,
        rows=out_of_fold_table(votes.battles, tokens, probabilities),
        raw_votes=votes.md5,
    )


# Seeds


def _combinations(runs: list[Result], votes: Votes) -> list[Combination]:
    by_seed = sorted(runs, key=lambda run: run.params["train"]["seed"])
    found = [_combination(trained, votes) for trained in seeds_together(by_seed)]
    return sorted(found, key=lambda combination: -combination.averaged.metrics["log_loss"])


def _combination(runs: list[Result], votes: Votes) -> Combination:
    examples = [sum(fold["examples"] for fold in run.folds) for run in runs]
    parts: dict[int, list[Result]] = {}
    for run, used in zip(runs, examples, strict=True):
        part = round(max(examples) / used)
        if abs(part * used / max(examples) - 1) > TOLERANCE:
            raise UserError(
                f"{run.name}: expected the {max(examples)} training votes, over all folds, of the "
                f"largest run of its kind, or a half, a third, … of them, found {used}"
            )
        parts.setdefault(part, []).append(run)
    seeds = parts.pop(1)
    if twice := repeated(seeds):
        raise UserError(f"expected each seed once, found: {'; '.join(twice)}; delete one of them")
    return Combination(seeds, _averaged(seeds, votes) if len(seeds) > 1 else seeds[0], parts)


def _averaged(seeds: list[Result], votes: Votes) -> Result:
    """The mean of the seeds' probabilities."""
    ab, ba = (
        np.mean([run.probabilities(order) for run in seeds], axis=0) for order in ("ab", "ba")
    )
    folds = [fold for run in seeds for fold in run.folds]
    curves = [curve for run in seeds for curve in run.curves]
    return _evaluated(seeds[0].name, seeds[0].params, ab, ba, seeds[0].rows, folds, curves, votes)
