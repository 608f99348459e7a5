"""From finished runs to a verdict: better, equivalent, undecided or invalid, and why.

A claim needs both intervals: the bootstrap over prompt groups takes the trained models as they are,
the corrected t interval over folds lets training itself vary. bench/error_rates.py tests the error
rates of that rule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from stages.comparison import paired
from stages.runs.finished import Result, titles
from stages.scoring import scores
from stages.scoring.baselines import TITLES
from stages.scoring.learning import REFERENCES
from stages.votes.labels import LABELS

DELTA = 0.005  # log loss; two backbones nearer than this are equivalent in practice
CONFIDENCE = 0.95
DRAWS = 10_000
SEED = 0  # of the draws
# Below this difference training noise decides: three seeds or no claim (Bouthillier et al. 2021,
# Accounting for Variance in Machine Learning Benchmarks).
NOISE, SEEDS = 0.01, 3
TOKENS = 1.5  # tokenizers of two families differ by less on the same votes
ORDER = ("yes", "undecided", "no")  # of `learned`, best first


@dataclass(frozen=True)
class Entry:
    """One backbone as trained: a run, or several that differ only in the seed of the training.

    Attributes:
        title: what sentences call it.
        losses: (n,) log loss of each vote, both orders averaged; the mean over seeds.
        right: (n,) whether the most probable class, by the mean over seeds, is the label.
    """

    runs: Sequence[Result]
    title: str
    losses: np.ndarray
    right: np.ndarray

    @property
    def name(self) -> str:
        return self.runs[0].name

    @property
    def learned(self) -> str:
        """The worst of its seeds: whether they learned."""
        return max((run.metrics["learned"] for run in self.runs), key=ORDER.index)


def compare(results: Sequence[Result], delta: float = DELTA) -> dict:
    """The verdict on two or more runs, as metrics/comparison.json holds it."""
    reasons = unlike(results)
    reasons += [reason for result in results for reason in broken(result)]
    reasons += repeated(results)
    same_rows = all(_same_rows(results[0], result) for result in results[1:])
    entries = _entries(results) if same_rows else []
    pairs = _pairs(entries, reasons, delta) if len(entries) > 1 else []
    if same_rows and len(entries) < 2:
        reasons.append("the runs are one backbone with several seeds: there is nothing to compare")
    verdict, sentence = _overall(entries, pairs, reasons)
    return {
        "verdict": verdict,
        "sentence": sentence,
        "reasons": reasons,
        "warnings": [*_warnings(results), *(w for pair in pairs for w in pair["warnings"])],
        "runs": list(map(_run, results, titles(results))),
        "seeds": {entry.name: _seeds(entry) for entry in entries},
        "pairs": pairs,
        "delta": delta,
        "confidence": CONFIDENCE,
    }


# What makes a comparison invalid


def unlike(results: Sequence[Result]) -> list[str]:
    """Why runs cannot be compared at all."""
    facts: dict[str, Callable[[Result], object]] = {
        "the raw votes (MD5)": lambda r: r.votes,
        "rows": lambda r: len(r.rows),
        "the objective": lambda r: r.params["train"]["objective"],
        **{
            f"{name} of the budget": lambda r, name=name: r.budget[name]
            for name in ("max_tokens", "epochs", "batch_size")
        },
    }
    told = []
    for what, fact in facts.items():
        names: dict[object, list[str]] = {}
        for result in results:
            names.setdefault(fact(result), []).append(result.name)
        if len(names) > 1:
            found = "; ".join(f"{value} in {', '.join(those)}" for value, those in names.items())
            told.append(f"{what} differ: {found}")
    if told:
        return told
    first = results[0]
    others = [other.name for other in results[1:] if not _same_rows(first, other)]
    return [f"the votes or their folds differ between {first.name} and {name}" for name in others]


def _same_rows(first: Result, other: Result) -> bool:
    keys = ["id", "fold", "label", "group"]
    a, b = (
        r.rows[keys].astype(str).sort_values("id").reset_index(drop=True) for r in (first, other)
    )
    return a.equals(b)


def broken(result: Result) -> list[str]:
    """Why a run says nothing about its backbone."""
    told = []
    metrics = result.metrics
    if metrics["learned"] == "no":
        told.append(
            f"{result.name} ({result.checkpoint}) has not learned: its log loss "
            f"{metrics['log_loss']:.4f} is no better than the {REFERENCES[result.reference]} "
            f"{result.to_beat:.4f}"
        )
    failed = {g["name"] for fold in result.folds for g in fold["gates"] if not g["passed"]}
    if failed:
        told.append(f"{result.name} failed the gates {', '.join(sorted(failed))}")
    return told


def repeated(results: Sequence[Result]) -> list[str]:
    """Which runs are one and the same: given twice, a run would count as two seeds."""
    return [
        f"{a.name} and {b.name} are the same run, with the same training seed"
        for a, b in combinations(results, 2)
        if but_for_the_seed(a) == but_for_the_seed(b) and _seed(a) == _seed(b)
    ]


# What only weakens it


def _warnings(results: Sequence[Result]) -> list[str]:
    told = [
        f"whether {r.name} ({r.checkpoint}) has learned is undecided: its gain over the "
        f"{REFERENCES[r.reference]} is {r.gain[0]:+.4f}, interval {_interval(*r.gain[1:])}"
        for r in results
        if r.metrics["learned"] == "undecided"
    ]
    best = min(results, key=lambda r: r.metrics["log_loss"])
    name, loss = min(best.metrics["baselines"].items(), key=lambda item: item[1])
    if loss <= best.metrics["log_loss"]:
        told.append(
            f"no run beats a baseline that has no language model: {TITLES[name]} has "
            f"{loss:.4f}, the best run, {best.name}, {best.metrics['log_loss']:.4f}"
        )
    for first, other in combinations(seeds_together(results), 2):
        told += _other_params(first[0], other[0]) + _other_tokens(first[0], other[0])
        told += _training_misleads(first, other)
    return told


def _other_params(first: Result, other: Result) -> list[str]:
    a, b = (_settings(run.params) for run in (first, other))
    changed = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
    if not changed:
        return []
    told = ", ".join(
        f"{key} is {_written(a.get(key, 'not set'))} and {_written(b.get(key, 'not set'))}"
        for key in changed
    )
    return [f"{first.name} and {other.name} were not trained alike: {told}"]


def _written(value: object) -> str:
    """As params.yaml has it."""
    return str(value).lower() if isinstance(value, bool | np.bool_) else str(value)


def _settings(params: dict) -> dict[str, object]:
    """What every backbone is trained with, by dotted name, but for what may differ."""
    flat = pd.json_normalize({"prompt": params["prompt"], "train": train_of(params)}).iloc[0]
    may_differ = [f"train.{name}" for name in ("objective", "seed", "log_steps", "save_steps")]
    return flat.drop(may_differ, errors="ignore").to_dict()


def train_of(params: dict) -> dict:
    """A run's section `train`; older ones lack what they could not have."""
    return {"offset": False} | params["train"]


def _other_tokens(first: Result, other: Result) -> list[str]:
    """Whether one run saw many more tokens than its tokenizer explains."""
    seen = [run.metrics["tokens_seen"] for run in (first, other)]
    if max(seen) <= TOKENS * min(seen):
        return []
    return [
        f"{first.name} was trained on {seen[0]:,} tokens, {other.name} on {seen[1]:,}: more than "
        "tokenizers explain"
    ]


def _training_misleads(first: Sequence[Result], other: Sequence[Result]) -> list[str]:
    """Whether training losses rank two backbones otherwise than validation losses, over seeds."""
    both = first, other
    training = [float(np.mean([_final_training_loss(run) for run in runs])) for runs in both]
    validation = [float(np.mean([run.metrics["log_loss"] for run in runs])) for runs in both]
    if (training[0] - training[1]) * (validation[0] - validation[1]) >= 0:
        return []
    names = (first[0].name, other[0].name)
    seeds = f", means of {len(first)} and {len(other)} seeds" * (len(first) + len(other) > 2)
    return [
        f"training loss and validation loss rank {names[0]} and {names[1]} differently{seeds}: "
        f"training {_both(names, training)}, out of fold {_both(names, validation)}; "
        "only the latter counts"
    ]


def _both(names: tuple[str, str], values: list[float]) -> str:
    return " and ".join(f"{v:.4f} ({n})" for n, v in zip(names, values, strict=True))


def _final_training_loss(result: Result) -> float:
    """The mean over folds of the last tenth of what was logged."""
    logged = [curve.training_loss.dropna() for curve in result.curves]
    return float(np.mean([loss.tail(max(1, len(loss) // 10)).mean() for loss in logged]))


# Entries and pairs


def _entries(results: Sequence[Result]) -> list[Entry]:
    found = seeds_together(results)
    called = titles([runs[0] for runs in found])
    return [_entry(runs, title) for runs, title in zip(found, called, strict=True)]


def seeds_together(results: Sequence[Result]) -> list[list[Result]]:
    """The runs of each backbone as trained, whose settings differ only by the training's seed."""
    alike: dict[str, list[Result]] = {}
    for result in results:
        alike.setdefault(but_for_the_seed(result), []).append(result)
    return list(alike.values())


def but_for_the_seed(result: Result) -> str:
    """What makes two runs differ in more than the seed of their training."""
    train = {k: v for k, v in train_of(result.params).items() if k != "seed"}
    chosen = result.params["backbones"][result.params["model"]][result.budget["size"]]
    prompt = result.params["prompt"]
    return repr((result.checkpoint, sorted(train.items()), prompt, chosen, result.budget))


def _seed(result: Result) -> int | None:
    """The training's; older runs had none of its own."""
    return result.params["train"].get("seed")


def _entry(runs: list[Result], title: str) -> Entry:
    tables = [_table(run) for run in runs]
    labels = tables[0].label.to_numpy()
    probabilities = [backbone(table) for table in tables]
    return Entry(
        runs=runs,
        title=title,
        losses=np.mean([scores.example_losses(labels, p) for p in probabilities], axis=0),
        right=np.mean(probabilities, axis=0).argmax(axis=1) == labels,
    )


def _table(run: Result) -> pd.DataFrame:
    """The out-of-fold table in an order that all runs share."""
    return run.rows.sort_values("id", ignore_index=True)


def backbone(rows: pd.DataFrame) -> np.ndarray:
    """The backbone's probabilities (n, 3), both orders averaged."""
    ab, ba = (rows[[f"{o}_{label}" for label in LABELS]].to_numpy() for o in ("ab", "ba"))
    return (ab + ba) / 2


def _pairs(entries: list[Entry], reasons: list[str], delta: float) -> list[dict]:
    rows = paired.describe([_table(run) for entry in entries for run in entry.runs])
    pairs = [_pair(a, b, rows) for a, b in combinations(entries, 2)]
    adjusted = paired.holm([pair["p_value"] for pair in pairs])
    by_name = {entry.name: entry for entry in entries}
    for pair, p in zip(pairs, adjusted, strict=True):
        pair["p_value_holm"] = p
        a, b = by_name[pair["a"]], by_name[pair["b"]]
        pair |= {"verdict": conclude(pair, pair["folds"], p, delta), "warnings": []}
        if reasons:
            pair["verdict"] = "invalid"
        elif doubt := _doubt(pair, a, b):
            pair |= {"verdict": "undecided", "warnings": [doubt]}
        pair["sentence"] = _sentence(pair, a, b, len(rows))
    return pairs


def _pair(a: Entry, b: Entry, rows: pd.DataFrame) -> dict:
    difference = a.losses - b.losses
    primary = paired.bootstrap(difference, rows, DRAWS, CONFIDENCE, SEED)
    folds = paired.corrected_t(difference, rows.fold.to_numpy(), CONFIDENCE)
    return {
        "a": a.name,
        "b": b.name,
        **primary,
        "folds": {key: folds[key] for key in ("difference", "low", "high")},
        # A claim needs both intervals, so the larger p value is the claim's.
        "p_value": max(primary["p_value"], folds["p_value"]),
        "mcnemar_p": paired.mcnemar(a.right, b.right),
        "accuracy_difference": float(a.right.mean() - b.right.mean()),
    }


def conclude(primary: dict, folds: dict, p_value: float, delta: float) -> str:
    """What two intervals of a difference bear, each a dict with low and high.

    Returns:
        `equivalent` if both lie within ±delta, `better` if both lie on one side of 0 and the p
        value, adjusted for other pairs, is below 1 - CONFIDENCE; else `undecided`.
    """
    intervals = primary, folds
    if all(-delta < i["low"] and i["high"] < delta for i in intervals):
        return "equivalent"
    apart = all(i["high"] < 0 for i in intervals) or all(i["low"] > 0 for i in intervals)
    return "better" if apart and p_value < 1 - CONFIDENCE else "undecided"


def _doubt(pair: dict, a: Entry, b: Entry) -> str | None:
    """Why a claim that the intervals would bear is not made."""
    if pair["verdict"] == "undecided":
        return None
    winner = a if pair["difference"] < 0 else b
    if pair["verdict"] == "better" and winner.learned != "yes":
        return f"no claim for {winner.name}: that it has learned at all is not shown"
    seeds = min(len(a.runs), len(b.runs))
    if abs(pair["difference"]) < NOISE and seeds < SEEDS:
        return (
            f"three seeds or no claim: {a.name} and {b.name} differ by "
            f"{abs(pair['difference']):.4f}, less than {NOISE:g}, and {seeds} "
            f"seed{'s'[: seeds > 1]} of each was run (-S train.seed=…)"
        )
    return None


# Words


def _sentence(pair: dict, a: Entry, b: Entry, n: int) -> str:
    winner, loser = (a, b) if pair["difference"] < 0 else (b, a)
    size = abs(pair["difference"])
    over_votes, over_folds = (
        "{:.4f} to {:.4f}".format(*sorted([abs(found["low"]), abs(found["high"])]))
        for found in (pair, pair["folds"])
    )
    signed = (
        f"log loss of {a.title} minus that of {b.title} {pair['difference']:+.4f}, "
        f"{100 * CONFIDENCE:g} % interval {_interval(pair['low'], pair['high'])}, over folds "
        f"{_interval(pair['folds']['low'], pair['folds']['high'])}, {n} votes"
    )
    return {
        "better": f"{winner.title} is better than {loser.title}: its log loss is lower "
        f"by {size:.4f}, {100 * CONFIDENCE:g} % interval {over_votes}, over folds {over_folds}, on "
        f"{n} votes.",
        "equivalent": f"{a.title} and {b.title} are equivalent: {signed}.",
        "undecided": f"Whether {a.title} or {b.title} is better is undecided: {signed}.",
        "invalid": f"{a.title} and {b.title} cannot be compared; for what it is worth, {signed}.",
    }[pair["verdict"]]


def _interval(low: float, high: float) -> str:
    return f"[{low:+.4f}, {high:+.4f}]"


def _overall(entries: list[Entry], pairs: list[dict], reasons: list[str]) -> tuple[str, str]:
    if len(reasons) == 1:
        return "invalid", f"No verdict: {reasons[0]}."
    if reasons:
        return "invalid", f"No verdict, for {len(reasons)} reasons."
    if len(pairs) == 1:
        return pairs[0]["verdict"], pairs[0]["sentence"]
    best = min(entries, key=lambda entry: entry.losses.mean())
    own = [pair for pair in pairs if best.name in (pair["a"], pair["b"])]
    n = len(best.losses)
    if all(pair["verdict"] == "better" for pair in own):
        return "better", (
            f"{best.title} is better than each of the {len(own)} others, at log loss "
            f"{best.losses.mean():.4f} on {n} votes: " + " ".join(pair["sentence"] for pair in own)
        )
    if all(pair["verdict"] == "equivalent" for pair in pairs):
        return "equivalent", f"All {len(entries)} backbones are equivalent on {n} votes."
    return "undecided", (
        f"No backbone is better than each of the others on {n} votes; the lowest log loss, "
        f"{best.losses.mean():.4f}, is {best.title}'s."
    )


def _run(result: Result, title: str) -> dict:
    facts = {name: result.metrics[name] for name in ("log_loss", "learned", "n_rows")}
    return {
        "name": result.name,
        "title": title,
        "checkpoint": result.checkpoint,
        **facts,
        "reference": REFERENCES[result.reference],
        "to_beat": result.to_beat,
        **dict(zip(("gain", "gain_low", "gain_high"), result.gain, strict=True)),
    }


def _seeds(entry: Entry) -> dict:
    losses = [run.metrics["log_loss"] for run in entry.runs]
    spread = float(np.std(losses, ddof=1)) if len(losses) > 1 else None
    return {"runs": [run.name for run in entry.runs], "log_losses": losses, "std": spread}
