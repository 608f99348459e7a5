"""What makes a comparison invalid: runs that are not alike, and runs that say nothing."""

from collections.abc import Callable, Sequence
from itertools import combinations

from stages.comparison.entries import but_for_the_seed
from stages.runs.finished import Result
from stages.votes.labels import LABELS, TARGETS

Facts = Callable[[Result], dict[str, object]]


def flaws(results: Sequence[Result]) -> list[str]:
    """All that makes a comparison of these runs invalid, as sentences."""
    said_nothing = [flaw for result in results for flaw in broken(result)]
    return [*unlike(results), *said_nothing, *repeated(results)]


def unlike(results: Sequence[Result]) -> list[str]:
    """Why runs cannot be compared at all; a blend's members may be trained in any way."""
    trained = [result for result in results if not result.members]
    return _differing(results, _votes) + _differing(trained, _training) or _other_rows(results)


def other_votes(results: Sequence[Result]) -> list[str]:
    """Why the predictions of runs are not of the same votes in the same folds."""
    return _differing(results, _votes) or _other_rows(results)


def _differing(results: Sequence[Result], facts: Facts) -> list[str]:
    found: dict[str, dict[object, list[str]]] = {}
    for result in results:
        for what, value in facts(result).items():
            found.setdefault(what, {}).setdefault(value, []).append(result.name)
    return [
        f"{what} differ: "
        + "; ".join(f"{value} in {', '.join(names)}" for value, names in values.items())
        for what, values in found.items()
        if len(values) > 1
    ]


def _other_rows(results: Sequence[Result]) -> list[str]:
    first = results[0]
    others = [other.name for other in results[1:] if not _same_rows(first, other)]
    return [f"the votes or their folds differ between {first.name} and {name}" for name in others]


def _votes(result: Result) -> dict[str, object]:
    """What has to be the same in all runs."""
    return {
        "the raw votes (MD5)": result.raw_votes,
        "the classes": " and ".join(LABELS[: result.votes.classes]),
        "rows": len(result.rows),
        "the folds evaluated": result.trained_folds,
    }


def _training(result: Result) -> dict[str, object]:
    """What has to be the same in all runs that are compared as backbones."""
    budget = ("max_tokens", "epochs", "batch_size")
    return {
        "the objectives": result.params["train"]["objective"],
        **{f"{name} of the budget": result.budget[name] for name in budget},
    }


def on_same_rows(results: Sequence[Result]) -> bool:
    """Whether all runs have the same votes in the same folds, in any order."""
    return all(_same_rows(results[0], other) for other in results[1:])


def _same_rows(first: Result, other: Result) -> bool:
    if first.votes.classes != other.votes.classes:
        return False
    keys = ["id", "fold", "group", "weight", *TARGETS[: first.votes.classes]]
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
            f"{metrics['log_loss']:.4f} is no better than the {result.reference_title} "
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


def _seed(result: Result) -> list[int | None]:
    """That of the training, or of each in a blend; older runs had none of its own."""
    return [run.params["train"].get("seed") for run in result.runs]
