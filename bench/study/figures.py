"""What runs have reached: ladder, verdict, differences, slices, cost, and what was tried before."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations as pairs_of
from pathlib import Path

import numpy as np
import pandas as pd

from bench.study.restore import Combination, losses
from stages.comparison import paired
from stages.comparison.compare import compare
from stages.comparison.pairs import DRAWS, SEED
from stages.comparison.verdict import CONFIDENCE
from stages.config.params import Checkpoint, Evaluate
from stages.pages import facts, tables
from stages.runs.finished import Result
from stages.scoring.baselines import TITLES
from stages.scoring.learning import beyond_baseline
from stages.scoring.metrics import intervals as metrics_of_gains

TUNED_FOLD, TUNED_SEED = 0, 20240508  # by which settings were chosen
CLAIMS = ("over votes", "over folds", "p", "without fold 0: over votes", "over folds", "p")

# Tables


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column has no title."""
    lines = [("", *header), ["---"] * (len(header) + 1), *rows]
    return "\n".join(
        "|" + "|".join(f" {cell} " if cell else " " for cell in x) + "|" for x in lines
    )


def side_by_side(columns: Mapping[str, Mapping[str, str]]) -> str:
    """A table of columns that have the same rows."""
    table = pd.DataFrame(columns).fillna("")
    return markdown(list(table), table.reset_index().to_numpy())


def gain(metrics: dict, name: str) -> str:
    """A gain of a run's metrics with its interval."""
    return tables.interval(metrics[name], metrics[f"{name}_low"], metrics[f"{name}_high"])


def intervals(gains: dict[str, np.ndarray], run: Result) -> dict[str, str]:
    """The mean over votes of each gain, with its interval as the run's metrics have theirs."""
    groups, settings = run.rows.group.to_numpy(), Evaluate.model_validate(run.params["evaluate"])
    found = metrics_of_gains(
        pd.DataFrame(gains), run.votes.weights, groups, settings, run.params["seed"]
    )
    return {name: gain(found, name) for name in gains}


# Figures


def trained(combinations: list[Combination]) -> str:
    """How each combination was trained."""
    rows = [_settings(c) for c in combinations]
    named = zip(combinations, rows, strict=True)
    return markdown(list(rows[0]), [(c.name, *row.values()) for c, row in named])


def _settings(combination: Combination) -> dict[str, str]:
    run, train = combination.averaged, combination.averaged.params["train"]
    entry = run.params["backbones"][run.params["model"]][run.budget["size"]]
    rates = Checkpoint.model_validate(entry)
    return {
        "checkpoint": run.checkpoint,
        "objective": combination.objective,
        "given length and format": ", ".join(combination.given) or "no",
        "epochs": str(run.budget["epochs"]),
        "lr": f"{getattr(rates.lr, combination.objective):g}",
        "head_lr": f"{rates.head_lr:g}" if combination.objective == "classify" else "no head",
        "gradients clipped at": f"{train['optimizer']['max_grad_norm']:g}",
        "seeds": ", ".join(str(seed) for seed in _seeds(combination.seeds)),
    }


def _seeds(runs: Sequence[Result]) -> list[int]:
    return [run.params["train"]["seed"] for run in runs]


def ladder(combinations: list[Combination]) -> str:
    """Baselines and backbones, from the worst to the best.

    Of several seeds: the mean over trainings, with the least and the most log loss, and the log
    loss of the mean of their predictions.
    """
    first = combinations[0].averaged
    rungs = [_baseline(first, name) for name in TITLES]
    rungs += [_backbone(c) for c in combinations]
    rungs.sort(key=lambda rung: -rung[0])
    header = (
        *("log loss", "mean prediction", "gain over the class prior", "the same over folds"),
        *("accuracy", "without fold 0: log loss", "mean prediction"),
    )
    return markdown(header, (cells for _, cells in rungs))


def by_fold(combinations: list[Combination]) -> str:
    """Log loss in each fold of the baselines, and of backbones as the mean of single trainings."""
    run = combinations[0].averaged
    named = {title: losses([run], name) for name, title in TITLES.items()}
    named |= {c.name: losses(c.seeds) for c in combinations}
    folds = run.rows.fold.to_numpy()
    rows = [
        (title, *(f"{each[:, folds == k].mean():.4f}" for k in np.unique(folds)))
        for title, each in named.items()
    ]
    return markdown([f"fold {k}" for k in np.unique(folds)], rows)


def _baseline(run: Result, name: str) -> tuple[float, Sequence[str]]:
    """Log loss, by which rungs are sorted, and cells."""
    metrics = run.baselines[name]
    gained = gain(metrics, "gain_over_prior") if metrics["gain_over_prior"] else ""
    loss, elsewhere = metrics["log_loss"], losses([run], name)[0, off_tuned_fold(run)].mean()
    over_folds = _over_folds(losses([run], "prior")[0] - losses([run], name)[0], run)
    over_folds = over_folds if gained else ""
    facts = (gained, over_folds, f"{metrics['accuracy']:.3f}", f"{elsewhere:.4f}", "")
    return loss, (TITLES[name], f"{loss:.4f}", "", *facts)


def _backbone(combination: Combination) -> tuple[float, Sequence[str]]:
    """The same of a backbone: of single trainings, and of the mean of their predictions."""
    runs, averaged = combination.seeds, combination.averaged
    each, together, prior = losses(runs), losses([averaged])[0], losses(runs, "prior")
    values = (prior - each).mean(axis=0)
    gained = intervals({"": values}, averaged)[""]
    accuracy = np.mean([run.metrics["accuracy"] for run in runs])
    several, untuned = len(runs) > 1, off_tuned_fold(averaged)
    cells = (
        _spread(each),
        f"{together.mean():.4f}" if several else "",
        gained,
        _over_folds(values, averaged),
        f"{accuracy:.3f}",
        _spread(each[:, untuned]),
        f"{together[untuned].mean():.4f}" if several else "",
    )
    return each.mean(), (f"**{combination.name}**", *cells)


def _over_folds(values: np.ndarray, run: Result) -> str:
    return _difference(paired.corrected_t(values, run.rows.fold.to_numpy(), CONFIDENCE))


def _spread(each: np.ndarray) -> str:
    """The mean log loss of single trainings, with the least and the most."""
    means = each.mean(axis=1)
    if len(means) == 1:
        return f"{means[0]:.4f}"
    return tables.interval(means.mean(), means.min(), means.max(), ".4f")


def off_tuned_fold(run: Result) -> np.ndarray:
    """Whether a vote is of a fold that no setting was chosen on: (n,)."""
    return (run.rows.fold != TUNED_FOLD).to_numpy()


def verdicts(combinations: list[Combination]) -> str:
    """What `python -m stages.compare` says of all seeds of the backbones trained in each way."""
    told = []
    for way in dict.fromkeys(c.way for c in combinations):
        alike = [c for c in combinations if c.way == way]
        if len(alike) > 1:
            found = of_all_seeds(alike)
            told.append(f"- {way}: {judged(found)}")
    return "\n".join(told)


def of_all_seeds(combinations: list[Combination]) -> dict:
    """What `python -m stages.compare` says of all seeds of these backbones."""
    return compare([run for c in combinations for run in c.seeds])


def judged(found: dict) -> str:
    """The verdict of a comparison, and below it what speaks against it or has to be known."""
    notes = "".join(f"\n  - {told}" for told in [*found["reasons"], *found["warnings"]])
    return f"**{found['verdict']}**. {tables.minus(found['sentence'])}{notes}"


def pairs(combinations: list[Combination]) -> str:
    """How far apart backbones are, by what a claim needs.

    Of several seeds, by the mean of their losses, as stages.compare takes it. Shown are those that
    differ in the checkpoint or the objective alone, or in that one was given length and format;
    checkpoints also by the seeds that no setting was chosen with.
    """
    compared = [(a, b) for a, b in pairs_of(combinations, 2) if _one_apart(a, b)]
    named = [(f"{a.name} − {b.name}", _apart(a.seeds, b.seeds)) for a, b in compared]
    for a, b in compared:
        others = _other_seeds(a), _other_seeds(b)
        if a.way == b.way and all(others):
            seeds = " and ".join(map(str, _seeds(others[0])))
            named.append((f"{a.name} − {b.name}, seeds {seeds}", _apart(*others)))
    votes, untuned = described(combinations), off_tuned_fold(combinations[-1].averaged)
    return markdown(CLAIMS, [(title, *_claims(x, votes, untuned)) for title, x in named])


def against_counts(combinations: list[Combination]) -> str:
    """How far each backbone is ahead of counting length and format, by what a claim needs."""
    votes, untuned = described(combinations), off_tuned_fold(combinations[-1].averaged)
    counts, rows = losses(combinations[0].seeds, "counts")[0], []
    for c in combinations:
        each, together = (counts - losses(runs).mean(axis=0) for runs in (c.seeds, [c.averaged]))
        rows.append((c.name, *_claims(each, votes, untuned), *claim(together, votes)[:2]))
    return markdown((*CLAIMS, "mean prediction: over votes", "over folds"), rows)


def _claims(values: np.ndarray, votes: pd.DataFrame, untuned: np.ndarray) -> Sequence[str]:
    """The cells under CLAIMS of differences (n,)."""
    return *claim(values, votes), *claim(values[untuned], votes[untuned])


def _one_apart(a: Combination, b: Combination) -> bool:
    if a.given and b.given and a.given != b.given:
        return False
    checkpoint = a.averaged.checkpoint != b.averaged.checkpoint
    return checkpoint + (a.objective != b.objective) + (a.given != b.given) == 1


def _apart(first: Sequence[Result], second: Sequence[Result]) -> np.ndarray:
    return losses(first).mean(axis=0) - losses(second).mean(axis=0)


def _other_seeds(combination: Combination) -> list[Result]:
    """The runs with seeds that no setting was chosen with, if there is one with which some were."""
    others = [run for run in combination.seeds if _seeds([run]) != [TUNED_SEED]]
    return others if len(others) < len(combination.seeds) else []


def claim(values: np.ndarray, votes: pd.DataFrame) -> tuple[str, str, str]:
    """Both intervals, and the larger of their p values."""
    over_votes, over_folds = both_intervals(values, votes)
    p = max(over_votes["p_value"], over_folds["p_value"])
    return _difference(over_votes), _difference(over_folds), f"{p:.3f}"


def both_intervals(values: np.ndarray, votes: pd.DataFrame) -> tuple[dict, dict]:
    """The mean of values (n,) with its interval over votes, and with that over folds."""
    votes = votes.reset_index(drop=True)
    over_votes = paired.bootstrap(values, votes, DRAWS, CONFIDENCE, SEED)
    return over_votes, paired.corrected_t(values, votes.fold.to_numpy(), CONFIDENCE)


def beyond(combinations: list[Combination]) -> str:
    """Gain beyond length and format, of single trainings and of the mean of their predictions."""
    votes, rows = described(combinations), []
    fold, untuned = votes.fold.to_numpy(), off_tuned_fold(combinations[0].averaged)
    for c in combinations:
        each, together = (
            np.mean([beyond_features(run) for run in runs], axis=0)
            for runs in (c.seeds, [c.averaged])
        )
        by_fold = ", ".join(tables.sign(each[fold == k].mean()) for k in np.unique(fold))
        elsewhere, *_ = claim(each[untuned], votes[untuned])
        rows.append(
            (c.name, *claim(each, votes)[:2], by_fold, elsewhere, *claim(together, votes)[:2])
        )
    header = (
        *("over votes", "over folds", "in each fold", "without fold 0: over votes"),
        *("mean prediction: over votes", "over folds"),
    )
    return markdown(header, rows)


def beyond_features(run: Result) -> np.ndarray:
    """Of each vote, what the backbone adds to length and format."""
    names = ("counts", "features", "with_features")
    counts, alone, together = (losses([run], name)[0] for name in names)
    return beyond_baseline(counts, alone, together, run.votes)


def described(combinations: list[Combination]) -> pd.DataFrame:
    return paired.describe([combination.averaged.rows for combination in combinations])


def slices(combinations: list[Combination]) -> str:
    """Gain beyond length and format by slice of the votes."""
    votes = described(combinations)
    return side_by_side({c.title: _slices(c.averaged, votes) for c in combinations})


def _slices(run: Result, votes: pd.DataFrame) -> dict[str, str]:
    found = paired.bootstrap(beyond_features(run), votes, DRAWS, CONFIDENCE, SEED)
    parts = [{"slice": "vote", "value": value} | part for value, part in found["classes"].items()]
    parts += [part for part in found["slices"] if part["slice"] != "script"]  # nearly all are latin
    return {
        f"{part['slice']}: {part['value']} ({part['rows']:,})": _difference(part) for part in parts
    }


def _difference(found: dict) -> str:
    return tables.interval(found["difference"], found["low"], found["high"])


def cost(combinations: list[Combination]) -> str:
    """What training took, all folds and seeds together."""
    told = ("training time", "tokens seen", "peak memory", "truncated battles", "tokens cut off")
    costs = {c.name: facts.cost(c.averaged) for c in combinations}
    return side_by_side({name: {k: cost[k] for k in told} for name, cost in costs.items()})


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
