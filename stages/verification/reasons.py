"""Why a run that was made again may differ from the recorded one."""

from collections.abc import Iterator
from pathlib import Path

from stages.runs.lock import Lock, changed, producers, read_lock
from stages.verification.differences import Outcome, circumstances


def likely_reasons(recorded: Path, again: Path, outcomes: list[Outcome]) -> list[str]:
    """Sentences on inputs that changed, on other circumstances, and on what neither explains.

    Args:
        recorded, again: folders of the two runs.
        outcomes: what stages.verification.differences.outcomes gave for them.
    """
    old, new = read_lock(recorded), read_lock(again)
    locked = [outcome for outcome in outcomes if outcome.stage in old]
    inputs = {each.stage: _changed_inputs(old, new, each.stage) for each in locked}
    reasons = list(_about_inputs(inputs))
    if any(each.agreement in ("within tolerance", "differs") for each in outcomes):
        reasons += _about_circumstances(recorded, again, outcomes)
    differing = [each.stage for each in locked if each.agreement == "differs"]
    for name in differing:
        upstream = {maker for makers in producers(new, name).values() for maker in makers}
        if not inputs[name] and not upstream.intersection(differing):
            reasons.append(_unexplained(name))
    return reasons


def _changed_inputs(old: Lock, new: Lock, stage: str) -> list[str]:
    """What the user changed of a stage's votes, code, params and command since it was recorded."""
    made = producers(new, stage)
    files = [path for path in changed(old[stage], new[stage], "deps") if not made.get(path)]
    before, after = (lock[stage].get("params", {}).get("params.yaml", {}) for lock in (old, new))
    keys = [key for key in before | after if before.get(key) != after.get(key)]
    commands = ["its command"] * (old[stage]["cmd"] != new[stage]["cmd"])
    return [*files, *(f"params.yaml: {key}" for key in keys), *commands]


def _about_inputs(inputs: dict[str, list[str]]) -> Iterator[str]:
    for what in dict.fromkeys(what for changes in inputs.values() for what in changes):
        stages = ", ".join(name for name, changes in inputs.items() if what in changes)
        yield f"{what}: not what {stages} had when recorded; changed since, without running again"


def _about_circumstances(recorded: Path, again: Path, outcomes: list[Outcome]) -> list[str]:
    folds = zip(circumstances(recorded), circumstances(again), strict=False)
    found = [
        f"{name}: {old.get(name)} when recorded, {new.get(name)} here"
        for old, new in folds
        for name in old | new
        if old.get(name) != new.get(name)
    ]
    if any(each.stage == "baselines" and each.agreement != "identical" for each in outcomes):
        found.append("even the baselines have other digits: another processor, or scikit-learn")
    if not circumstances(recorded):
        found.append("the record does not say with which libraries, on which device it was made")
    return list(dict.fromkeys(found))


def _unexplained(stage: str) -> str:
    if stage.startswith("train@"):
        return (
            f"{stage}: the same votes, code and params give another model: unless the above "
            "explains it, the recorded training went on from a checkpoint left over from another "
            "run, or its outs are those of another run"
        )
    return (
        f"{stage}: the same inputs give another result: unless the above explains it, what is "
        "recorded was edited by hand, and dvc.lock with it"
    )
