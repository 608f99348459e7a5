"""What runs have reached: ladder, verdict, differences, slices, cost, and what was tried before."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations as pairs_of
from pathlib import Path

import numpy as np
import pandas as pd

from bench.results.restore import Combination, losses
from stages import evaluate
from stages.compare import differences
from stages.compare.__main__ import text
from stages.compare.verdict import CONFIDENCE, DRAWS, SEED, compare
from stages.params import Evaluate
from stages.report import tables
from stages.results import Result

# Tables


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column has no title."""
    lines = [("", *header), ["---"] * (len(header) + 1), *rows]
    return "\n".join(
        "|" + "|".join(f" {cell} " if cell else " " for cell in x) + "|" for x in lines
    )


def side_by_side(columns: Mapping[str, Mapping[str, str]]) -> str:
    """A table of columns that have the same rows."""
    table = pd.DataFrame(columns)
    return markdown(list(table), table.reset_index().to_numpy())


def gain(metrics: dict, name: str) -> str:
    """A gain of a run's metrics with its interval."""
    return tables.interval(metrics[name], metrics[f"{name}_low"], metrics[f"{name}_high"])


def intervals(gains: dict[str, np.ndarray], run: Result) -> dict[str, str]:
    """The mean over votes of each gain, with its interval as the run's metrics have theirs."""
    groups, settings = run.rows.group.to_numpy(), Evaluate.model_validate(run.params["evaluate"])
    found = evaluate.intervals(pd.DataFrame(gains), groups, settings, run.params["seed"])
    return {name: gain(found, name) for name in gains}


# Figures


def ladder(combinations: list[Combination]) -> str:
    """Baselines and backbones, from the worst to the best.

    Of several seeds, a row has the mean over trainings, with the least and the most log loss; the
    mean of their predictions has a row of its own.
    """
    baselines = combinations[0].averaged.baselines
    rungs = [_baseline(tables.TITLES[name], baselines[name]) for name in evaluate.BASELINES]
    for c in combinations:
        title, n = _as_trained(c), len(c.seeds)
        rungs.append(_backbone(f"{title}: {n} seeds, each alone" if n > 1 else title, c.seeds))
        if n > 1:
            rungs.append(_backbone(f"{title}: mean prediction of {n} seeds", [c.averaged]))
    rungs.sort(key=lambda rung: -rung[0])
    header = ("log loss", "gain over the class prior", "accuracy", "gain beyond length and format")
    return markdown(header, (cells for _, cells in rungs))


def _baseline(title: str, metrics: dict) -> tuple[float, Sequence[str]]:
    """Log loss, by which rungs are sorted, and cells."""
    gained = gain(metrics, "gain_over_prior") if metrics["gain_over_prior"] else ""
    loss = metrics["log_loss"]
    return loss, (title, f"{loss:.4f}", gained, f"{metrics['accuracy']:.3f}", "")


def _backbone(title: str, runs: list[Result]) -> tuple[float, Sequence[str]]:
    """The same of one training, as the mean over runs that differ in their seed."""
    prior, counts, backbone, both = (
        losses(runs, name).mean(axis=0) for name in ("prior", "counts", "backbone", "with_features")
    )
    gains = {"over the prior": prior - backbone, "beyond features": counts - both}
    over_prior, beyond = intervals(gains, runs[0]).values()
    each = [run.metrics["log_loss"] for run in runs]
    accuracy = np.mean([run.metrics["accuracy"] for run in runs])
    told = tables.interval(np.mean(each), min(each), max(each), ".4f")
    return np.mean(each), (title, told, over_prior, f"{accuracy:.3f}", beyond)


def _as_trained(combination: Combination) -> str:
    run, train = combination.averaged, combination.averaged.params["train"]
    checkpoint = run.params["backbones"][run.params["model"]][run.budget["size"]]
    rates = f"lr {checkpoint['lr']:g}"
    if train["objective"] == "classify":
        rates += f", head_lr {checkpoint['head_lr']:g}"
    clipped = f"clipped at {train['optimizer']['max_grad_norm']:g}"
    return f"**{run.checkpoint}**, `{combination.way}`, {rates}, {clipped}"


def verdicts(combinations: list[Combination]) -> str:
    """What `python -m stages.compare` prints of all seeds of the backbones trained in each way."""
    told = []
    for way in dict.fromkeys(c.way for c in combinations):
        alike = [c for c in combinations if c.way == way]
        if len(alike) > 1:
            printed = text(compare([run for c in alike for run in c.seeds]))
            told.append(f"With `{way}`:\n\n```\n{printed}\n```")
    return "\n\n".join(told)


def pairs(combinations: list[Combination]) -> str:
    """How far apart backbones and baselines are, by both intervals that a claim needs.

    Of several seeds, by the mean of their losses, as stages.compare takes it. Shown are those that
    share checkpoint or way of training, and the best one beside length and format.
    """
    best, votes = combinations[-1], _described(combinations)
    named = [
        (a.name, b.name, losses(a.seeds).mean(axis=0) - losses(b.seeds).mean(axis=0))
        for a, b in pairs_of(combinations, 2)
        if a.way == b.way or a.averaged.checkpoint == b.averaged.checkpoint
    ]
    for name in ("length", "counts"):
        difference = losses(best.seeds, name)[0] - losses(best.seeds).mean(axis=0)
        named.append((tables.TITLES[name], best.name, difference))
    rows = []
    for first, second, difference in named:
        found = _both_intervals(difference, votes)
        p = max(each["p_value"] for each in found)
        rows.append((f"{first} − {second}", *map(_difference, found), f"{p:.3f}"))
    return markdown(("over votes", "over folds", "p, the larger"), rows)


def beyond(combinations: list[Combination]) -> str:
    """Gain beyond length and format, by both intervals that a claim needs.

    Of single trainings, as the mean over seeds, and of the mean of their predictions.
    """
    votes, rows = _described(combinations), []
    for c in combinations:
        cells = []
        for runs in (c.seeds, [c.averaged]):
            gained = (losses(runs, "counts") - losses(runs, "with_features")).mean(axis=0)
            cells += map(_difference, _both_intervals(gained, votes))
        rows.append((c.name, *cells))
    header = ("each alone, over votes", "over folds", "mean prediction, over votes", "over folds")
    return markdown(header, rows)


def _both_intervals(values: np.ndarray, votes: pd.DataFrame) -> tuple[dict, dict]:
    """Over votes and over folds."""
    return (
        differences.bootstrap(values, votes, DRAWS, CONFIDENCE, SEED),
        differences.corrected_t(values, votes.fold.to_numpy(), CONFIDENCE),
    )


def _described(combinations: list[Combination]) -> pd.DataFrame:
    return differences.describe([combination.averaged.rows for combination in combinations])


def slices(combinations: list[Combination]) -> str:
    """Gain beyond length and format by slice of the votes."""
    votes = _described(combinations)
    return side_by_side({c.title: _slices(c.averaged, votes) for c in combinations})


def _slices(run: Result, votes: pd.DataFrame) -> dict[str, str]:
    counts, both = (losses([run], name)[0] for name in ("counts", "with_features"))
    found = differences.bootstrap(counts - both, votes, DRAWS, CONFIDENCE, SEED)
    parts = [{"slice": "vote", "value": value} | part for value, part in found["classes"].items()]
    return {
        f"{part['slice']}: {part['value']} ({part['rows']:,})": _difference(part)
        for part in [*parts, *found["slices"]]
    }


def _difference(found: dict) -> str:
    return tables.interval(found["difference"], found["low"], found["high"])


def cost(combinations: list[Combination]) -> str:
    """What training took, all folds and seeds together."""
    return side_by_side({c.name: tables.cost(c.averaged) for c in combinations})


def probes(path: Path) -> str:
    """Validation loss by epoch of the settings that were tried on one fold.

    Args:
        path: of a table with run, epoch (or what else was measured) and validation_loss.
    """
    tried = pd.read_csv(path, dtype={"epoch": str})
    table = tried.pivot_table(index="run", columns="epoch", values="validation_loss")
    cells = table.map(lambda loss: "" if pd.isna(loss) else f"{loss:.3f}")
    titles = [f"epoch {epoch}" if epoch.isdecimal() else epoch for epoch in table]
    return markdown(titles, cells.reset_index().to_numpy())
