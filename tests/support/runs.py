"""Finished runs made up with numpy, laid out as stages.runs.finished reads them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.special import softmax

from stages.config.params import Params
from stages.config.paths import CALIBRATION
from stages.runs.finished import Result
from stages.scoring.baselines import TITLES
from stages.scoring.bootstrap import ENDS
from stages.scoring.calibration import fit
from stages.scoring.metrics import cost, evaluate
from stages.scoring.out_of_fold import out_of_fold_table
from stages.scoring.predictions import columns_of
from stages.votes.battles import COLUMNS
from stages.votes.labels import Votes, votes_of, with_classes
from stages.votes.prepared import VOTE
from tests.support.settings import raw_params
from tests.support.votes import with_votes

MD5 = "0123456789abcdef0123456789abcdef"
SKILLS = {"length": 0.4, "counts": 0.6, "tfidf": 0.5, "tfidf_counts": 0.7}  # others have 0.5
GATES = [
    {"name": "first_loss", "passed": True, "value": "1.0986", "expected": "ln 3 = 1.0986"},
    {"name": "reload", "passed": True, "value": "0", "expected": "below 0.001"},
]


def write_run(
    folder: Path,
    checkpoint: str = "tiny-llama",
    skill: float = 1.0,
    seed: int = 0,
    rows: int = 240,
    folds: int = 3,
    classes: int = 3,
    **params: object,
) -> Path:
    """Write a run's files and return its folder.

    Args:
        checkpoint: its name.
        skill: of the backbone: 0 is noise, worse than the prior, 1 gains 0.37
            of log loss on it.
        seed: of the backbone's guesses; the votes and the baselines are the same for every seed.
        rows, folds, classes: of the votes.
        params: top-level values for params.yaml beside the shipped ones, such as model="gemma".
    """
    raw = raw_params()
    raw |= {"split": {"folds": list(range(folds))}} | params
    raw["evaluate"]["draws"] = 200
    battles = make_votes(rows, classes)
    table = with_classes(battles[["id", *VOTE, "source", "language"]]).assign(
        group=[f"group-{i // 2}" for i in range(rows)], fold=np.arange(rows) // 2 % folds
    )
    probabilities = _probabilities(table, skill, seed)
    settings = Params.model_validate(raw).evaluate
    metrics, ladder = evaluate(table, probabilities, settings, raw["seed"])
    tokens = pd.DataFrame({"tokens": np.arange(rows) % 97 + 20, "tokens_dropped": 0})
    tokens.loc[::5, "tokens_dropped"] = 7
    summaries = [_summary(fold, checkpoint, raw) for fold in range(folds)]
    metrics |= cost(summaries, tokens)
    oof = out_of_fold_table(table.assign(prompt=battles.prompt), tokens, probabilities)
    _write(folder, raw, metrics, ladder, summaries)
    _write_tables(folder, battles, oof, [_curve(seed + fold, skill) for fold in range(folds)])
    calibration = fit(votes_of(table), probabilities["backbone"], settings.calibration)
    (folder / CALIBRATION).write_text(json.dumps(calibration), encoding="utf-8")
    return folder


def leave_unknown(result: Result) -> Result:
    """A run in which too few votes leave unknown what lies beyond length and format."""
    names = [f"gain_beyond_features{end}" for end in ENDS]
    columns = columns_of(result.rows, "features") + columns_of(result.rows, "with_features")
    metrics = result.metrics | dict.fromkeys(names)
    return replace(result, metrics=metrics, rows=result.rows.drop(columns=columns))


def make_votes(rows: int, classes: int = 3) -> pd.DataFrame:
    """Made-up battles as `prepare` writes them; every eighth has two turns."""
    labels = np.random.default_rng(0).integers(classes, size=rows)
    table = pd.DataFrame({"id": [f"id-{i}" for i in range(rows)], "model_a": None, "model_b": None})
    for name, word in (("prompt", "question"), ("response_a", "yes"), ("response_b", "no")):
        table[name] = [
            [f"{word} {i // 2} of {t}" for t in range(1 + (i % 8 == 0))] for i in range(rows)
        ]
    table = with_votes(table, labels).assign(source="votes")
    return table.reindex(columns=COLUMNS.names)


def _probabilities(table: pd.DataFrame, skill: float, seed: int) -> dict[str, np.ndarray]:
    votes = votes_of(table)
    guess = {
        name: _guess(votes, SKILLS.get(name, 0.5), place)
        for place, name in enumerate(name for name in TITLES if name != "prior")
    }
    orders = [_guess(votes, skill, 100 + 2 * seed + order) for order in range(2)]
    backbone = sum(orders) / 2
    return {
        "prior": np.tile(votes.shares, (len(votes), 1)),
        **guess,
        **dict(zip(("ab", "ba"), orders, strict=True)),
        "backbone": backbone,
        "features": guess["counts"],
        "with_features": (backbone + guess["counts"]) / 2,
        "calibrated": backbone,
        "by_rule": backbone,
    }


def _guess(votes: Votes, skill: float, seed: int) -> np.ndarray:
    """What follows from seeing the vote through noise; without skill, no more than noise."""
    noise = np.random.default_rng(seed).normal(size=votes.targets.shape)
    seen = skill * votes.targets + noise
    return softmax(np.log(votes.shares) + (skill or 1.0) * seen, axis=1)


def _summary(fold: int, checkpoint: str, raw: dict) -> dict:
    return {
        "fold": fold,
        "fingerprint": f"fingerprint-{fold}",
        "checkpoint": {
            "family": raw["model"],
            "size": "small",
            "checkpoint": checkpoint,
            "source": "folder",
            "revision": "abc",
            "architecture": "LlamaForCausalLM",
        },
        "objective": raw["train"]["objective"],
        "offset": raw["train"]["offset"],
        "steps": 20,
        "tokens_seen": 1000,
        "train_seconds": 10.0,
        "tokens_per_second": 100.0,
        "peak_memory_gib": 1.5,
        "device": "cpu: 8086, 2 threads",
        "processes": 1,
        "dtype": "float32",
        "attention": "packed",
        "versions": {"torch": "1.2.3"},
        "gates": GATES,
    }


def _curve(seed: int, skill: float) -> pd.DataFrame:
    steps = np.arange(1, 21)
    losses = np.log(3) - 0.01 * skill * steps
    losses = losses + np.random.default_rng(seed).normal(scale=0.01, size=20)
    table = pd.DataFrame({"step": steps, "epoch": steps / 10, "training_loss": losses})
    table["validation_loss"] = np.where(steps % 10 == 0, losses + 0.02, np.nan)
    return table.assign(lr=1e-4, grad_norm=1.0)


def _write(folder: Path, raw: dict, metrics: dict, ladder: dict, summaries: list[dict]) -> None:
    lock = {"stages": _locked(raw, len(summaries))}
    baselines = {name: ladder[name] for name in TITLES}
    for path, content in (
        ("params.yaml", yaml.safe_dump(raw)),
        ("dvc.lock", yaml.safe_dump(lock)),
        ("metrics/metrics.json", json.dumps(metrics)),
        ("metrics/baselines.json", json.dumps(baselines)),
        ("metrics/provenance.json", json.dumps(summaries)),
        *((f"metrics/folds/fold-{s['fold']}.json", json.dumps(s)) for s in summaries),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")


def _locked(raw: dict, folds: int) -> dict:
    """The stages of a dvc.lock."""
    size = {f"scales.{raw['scale']}": raw["scales"][raw["scale"]]}
    backbone = {f"backbones.{raw['model']}": raw["backbones"][raw["model"]]}
    used = {"prompt": raw["prompt"], "train": raw["train"], **size, **backbone}
    votes = [{"path": raw["data"]["raw"], "md5": MD5}]
    return {
        "prepare": {"deps": votes, "params": {"params.yaml": {"data": raw["data"]}}},
        **{f"train@{fold}": {"params": {"params.yaml": used}} for fold in range(folds)},
    }


def _write_tables(
    folder: Path, battles: pd.DataFrame, rows: pd.DataFrame, curves: list[pd.DataFrame]
) -> None:
    for name, table in (("prepared/battles", battles), ("evaluated/out_of_fold", rows)):
        path = folder / f"data/{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path, index=False)
    for fold, curve in enumerate(curves):
        curve.to_csv(folder / f"metrics/folds/fold-{fold}.csv", index=False)
