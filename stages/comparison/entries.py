"""What is compared: each backbone as trained, its seeds taken together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stages.config.data import Auxiliary, Section
from stages.config.params import Checkpoint, Prompt, Scale, Train
from stages.runs.finished import Result, titles
from stages.scoring import scores

ORDER = ("yes", "undecided", "no")  # of `learned`, best first


@dataclass(frozen=True)
class Entry:
    """One backbone as trained: a run, or several that differ only in the seed of the training.

    Attributes:
        runs: their rows are in an order that all entries share.
        title: what sentences call it.
        weights: (n,) of the votes.
        losses: (n,) log loss of each vote, both orders averaged; the mean over seeds.
        right: (n,) whether the most probable class, by the mean over seeds, is the label.
    """

    runs: Sequence[Result]
    title: str
    weights: np.ndarray
    losses: np.ndarray
    right: np.ndarray

    @property
    def name(self) -> str:
        return self.runs[0].name

    @property
    def learned(self) -> str:
        """The worst of its seeds: whether they learned."""
        return max((run.metrics["learned"] for run in self.runs), key=ORDER.index)


def in_entries(results: Sequence[Result]) -> list[Entry]:
    """An entry for each backbone as trained; the runs have the same rows, in any order."""
    found = seeds_together(results)
    called = titles([runs[0] for runs in found])
    return [_entry(runs, title) for runs, title in zip(found, called, strict=True)]


def _entry(runs: list[Result], title: str) -> Entry:
    runs = [replace(run, rows=run.rows.sort_values("id", ignore_index=True)) for run in runs]
    votes = runs[0].votes
    probabilities = [run.probabilities("backbone") for run in runs]
    return Entry(
        runs=runs,
        title=title,
        weights=votes.weights,
        losses=np.mean([scores.example_losses(votes, p) for p in probabilities], axis=0),
        right=scores.right(votes, np.mean(probabilities, axis=0)),
    )


def seeds_together(results: Sequence[Result]) -> list[list[Result]]:
    """The runs of each backbone as trained, whose settings differ only by the training's seed."""
    alike: dict[str, list[Result]] = {}
    for result in results:
        alike.setdefault(but_for_the_seed(result), []).append(result)
    return list(alike.values())


def but_for_the_seed(result: Result) -> str:
    """What makes two runs differ in more than the seed of their training."""
    if result.members:
        counted = [member["title"] for member in result.metrics["members"][len(result.members) :]]
        return repr(
            (list(map(but_for_the_seed, result.members)), counted, result.metrics["weights"])
        )
    train = {k: v for k, v in train_of(result.params).items() if k != "seed"}
    chosen = result.params["backbones"][result.params["model"]][result.budget["size"]]
    checkpoint = _filled(Checkpoint, chosen) | {"lr": _rate(chosen["lr"], train["objective"])}
    sections = [train, prompt_of(result.params), checkpoint]
    sections += [_filled(Scale, result.budget), *beside_of(result.params)]
    trained = (result.checkpoint, *(sorted(section.items()) for section in sections))
    return repr((*trained, sorted(teacher_of(result.params).items())))


def _filled(section: type[Section], given: dict) -> dict:
    """A section of a run's params with what it leaves out; an older run may have other keys."""
    fields = section.model_fields
    left_out = {name: field.default for name, field in fields.items() if not field.is_required()}
    inner = {
        name: _filled(field.annotation, given[name])
        for name, field in fields.items()
        if isinstance(field.annotation, type)
        and issubclass(field.annotation, Section)
        and isinstance(given.get(name), dict)  # rates may be one number
    }
    return left_out | given | inner


def _rate(rates: float | dict[str, float], objective: str) -> float:
    """The one of a checkpoint's rates that a run was trained with."""
    return rates.get(objective) or rates["classify"] if isinstance(rates, dict) else rates


def train_of(params: dict) -> dict:
    """A run's section `train`; older ones lack what they could not have."""
    train = _filled(Train, params["train"])
    return {k: v for k, v in train.items() if k != "inner" or train["select"] == "best"}


def teacher_of(params: dict) -> dict:
    """Who taught a run, and how, likewise; nothing where nobody did."""
    teacher = params.get("teacher", {})
    return teacher if teacher.get("from") or teacher.get("predictions") else {}


def beside_of(params: dict) -> list[dict]:
    """The files of votes that a run was trained on beside its own, with what is left out."""
    return [_filled(Auxiliary, file) for file in params["data"].get("auxiliary", [])]


def prompt_of(params: dict) -> dict:
    """A run's section `prompt`, likewise."""
    return _filled(Prompt, params["prompt"])
