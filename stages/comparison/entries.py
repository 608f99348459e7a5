"""What is compared: each backbone as trained, its seeds taken together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stages.config.data import Auxiliary
from stages.config.params import Checkpoint, Scale
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
    budget = Scale.model_validate(result.budget)
    family = result.params["backbones"][result.params["model"]]
    chosen = Checkpoint.model_validate(family[budget.size])
    prompt, beside = sorted(prompt_of(result.params).items()), beside_of(result.params)
    trained = (result.checkpoint, sorted(train.items()), prompt, chosen, budget, beside)
    return repr((*trained, sorted(teacher_of(result.params).items())))


def train_of(params: dict) -> dict:
    """A run's section `train`; older ones lack what they could not have."""
    train = {"offset": False, "way": "auto", "select": "last"} | params["train"]
    return {k: v for k, v in train.items() if k != "inner" or train["select"] == "best"}


def teacher_of(params: dict) -> dict:
    """Who taught a run, and how, likewise; nothing where nobody did."""
    teacher = params.get("teacher", {})
    return teacher if teacher.get("from") or teacher.get("predictions") else {}


def beside_of(params: dict) -> list[dict]:
    """The files of votes that a run was trained on beside its own, with what is left out."""
    files = params["data"].get("auxiliary", [])
    return [Auxiliary.model_validate(file).model_dump() for file in files]


def prompt_of(params: dict) -> dict:
    """A run's section `prompt`, likewise."""
    return {"counts": False, "chat": False} | params["prompt"]
