"""What a run cost, all that determines its numbers, and in what runs differ."""

import hashlib
import json
from collections.abc import Iterable

import pandas as pd

from stages.pages.tables import CLASSES
from stages.runs.finished import Result


def cost(result: Result) -> dict[str, str]:
    """What training took over all folds, on which device."""
    metrics, folds = result.metrics, result.folds
    return {
        "training time": _duration(metrics["train_seconds"]),
        "tokens seen": f"{metrics['tokens_seen']:,}",
        "tokens per second": f"{metrics['tokens_per_second']:,.0f}",
        "peak memory": f"{metrics['peak_memory_gib']:.1f} GiB",
        "optimiser steps": f"{sum(fold['steps'] for fold in folds):,}",
        "device": _each(fold["device"] for fold in folds),
        "dtype": _each(fold["dtype"] for fold in folds),
        "attention": _each(fold["attention"] for fold in folds),
        "truncated battles": f"{metrics['truncated_share']:.1%}",
        "tokens cut off": f"{metrics['tokens_dropped_share']:.1%}",
    }


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _each(values: Iterable[str]) -> str:
    """The values without repeats."""
    return ", ".join(dict.fromkeys(values))


def made(result: Result) -> dict[str, str]:
    """All that determines a run's numbers, and the digest of its params; of a blend, each run's."""
    runs = result.runs
    checkpoints = [run.folds[0]["checkpoint"] for run in runs]
    versions = (run.folds[0]["versions"] for run in runs)
    return {
        "run": result.name,
        "checkpoint": _each(checkpoint["checkpoint"] for checkpoint in checkpoints),
        "source": _each(checkpoint["source"] for checkpoint in checkpoints),
        "revision": _each(checkpoint["revision"] for checkpoint in checkpoints),
        "votes": result.params["data"]["raw"],
        "MD5 of the votes": result.raw_votes,
        "classes": ", ".join(CLASSES[: result.votes.classes]),
        "rows": f"{result.metrics['n_rows']:,}",
        **_agreement(result.metrics.get("several_votes", {"pairs": 0})),
        "folds": result.trained_folds,
        "seed": str(result.params["seed"]),
        "scale": _each(run.params["scale"] for run in runs),
        "objective": _each(run.params["train"]["objective"] for run in runs),
        "given length and format": ", ".join(result.given) or "no",
        **_taught(run.params.get("teacher", {}) for run in runs),
        **_kept(result.folds),
        "params, SHA-256": _each(_digest(chosen(run.params)) for run in runs),
        "versions": _each(f"{name} {value}" for each in versions for name, value in each.items()),
    }


def _digest(params: dict) -> str:
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()


def _taught(teachers: Iterable[dict]) -> dict[str, str]:
    """Who said what beside the votes, if anyone did."""
    told = _each(_teacher(teacher) for teacher in teachers if _named(teacher))
    return {"teacher": told} if told else {}


def _teacher(teacher: dict) -> str:
    return f"{_named(teacher)}, weight {teacher['weight']:g}"


def _named(teacher: dict) -> str:
    files = [file["raw"] for file in teacher.get("predictions", [])]
    return teacher.get("from") or ", ".join(files)


def _kept(folds: list[dict]) -> dict[str, str]:
    """Which epoch of each fold is kept, where the best ones are."""
    epochs = [str(fold["kept"]["epoch"]) for fold in folds if "kept" in fold]
    return {"epochs kept, by inner loss": ", ".join(epochs)} if epochs else {}


def _agreement(several: dict) -> dict[str, str]:
    """How far votes on one pair agree, where there are such."""
    if not several["pairs"]:
        return {}
    told = f"{several['agreement']:.1%}; least possible log loss {several['entropy']:.4f}"
    return {"agreement of votes on one pair": told}


def differing(results: list[Result]) -> dict[str, list[str]]:
    """The params in which the runs differ, each with the value of every run; — where unset.

    A blend has the values of its members.
    """
    table = pd.DataFrame([_flat_settings(result) for result in results]).fillna("—")
    return {name: list(values) for name, values in table.items() if values.nunique() > 1}


def _flat_settings(result: Result) -> dict[str, str]:
    flat = [pd.json_normalize(_settings(r.params), sep=".").iloc[0].map(str) for r in result.runs]
    return {name: _each(values) for name, values in pd.DataFrame(flat).fillna("—").items()}


def _settings(params: dict) -> dict:
    """The params with the chosen scale and checkpoint in the place of all."""
    budget = params["scales"][params["scale"]]
    checkpoint = params["backbones"][params["model"]][budget["size"]]
    left = ("scales", "backbones", "tune")
    rest = {name: value for name, value in params.items() if name not in left}
    return rest | {"budget": budget, "checkpoint": checkpoint}


def chosen(params: dict) -> dict:
    """The params that the run has used: of scales and backbones one, and no ranges to tune."""
    return {name: value for name, value in params.items() if name != "tune"} | {
        section: {params[key]: params[section][params[key]]}
        for section, key in (("scales", "scale"), ("backbones", "model"))
    }
