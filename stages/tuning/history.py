"""What is recorded of a study: a row for each trial, and a summary that tells how sure it is."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from stages.tuning.space import Setting, present
from stages.tuning.task import Task
from stages.tuning.watch import RULE

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}


def table(trials: Sequence[FrozenTrial], settings: dict[str, Setting]) -> pd.DataFrame:
    """A row for each trial.

    Returns:
        trial, state, log_loss (of one that was stopped the last, in one order), standard_error,
        each setting's value, epochs_seen, seconds, reason (of a failure).
    """
    rows = [
        {
            "trial": number,
            "state": STATES[trial.state],
            "log_loss": trial.value,
            "standard_error": trial.user_attrs["outcome"].get("standard_error"),
            **trial.user_attrs["values"],
            "epochs_seen": round(trial.user_attrs["outcome"]["epochs"], 3),
            "seconds": round(trial.user_attrs["outcome"]["seconds"], 1),
            "reason": trial.user_attrs["outcome"].get("reason", ""),
        }
        for number, trial in enumerate(trials)
    ]
    names = ["trial", "state", "log_loss", "standard_error", *settings]
    found = pd.DataFrame(rows, columns=[*names, "epochs_seen", "seconds", "reason"])
    return found.astype({"log_loss": float, "standard_error": float})


def summary(task: Task, checkpoint: str, trials: Sequence[FrozenTrial]) -> dict:
    """All but the trials themselves, as JSON holds it.

    Args:
        checkpoint: its name.
    """
    params, inner = task.params, task.inner
    found = table(trials, task.settings)
    best = _best(found[found.state == "complete"], trials, task.settings)
    return {
        "model": params.model,
        "checkpoint": checkpoint,
        "objective": params.train.objective,
        "scale": params.scale,
        "seed": params.seed,
        "budget": {
            "trials": task.tune.trials,
            "epochs_at_most": _most(task, "epochs"),
            "max_tokens": _most(task, "max_tokens"),
            "training_votes": len(inner.training),
        },
        "inner_votes": {
            "rows": len(inner.held_out),
            "groups": inner.held_out.group.nunique(),
            "prior_log_loss": inner.prior(),
        },
        "ranges": {
            name: task.tune.ranges[name].model_dump(exclude_defaults=True) for name in task.settings
        },
        "pruning": RULE,
        "states": {state: int((found.state == state).sum()) for state in STATES.values()},
        **best,
        "present": _present(task, trials, best["best"]),
    }


def _present(task: Task, trials: Sequence[FrozenTrial], best: dict | None) -> dict | None:
    """The trial with the settings of params.yaml, and by how much the best one is better.

    None if they were not tried, or that trial is not complete.
    """
    now = present(task.settings)
    complete = [n for n, trial in enumerate(trials) if trial.state == TrialState.COMPLETE]
    same = [n for n in complete if trials[n].user_attrs["values"] == now]
    if best is None or not same:
        return None
    both = (trials[n].user_attrs["outcome"]["losses"] for n in (same[0], best["trial"]))
    old, new = map(np.array, both)
    gain, standard_error = task.inner.mean(old - new)
    return {"trial": same[0], "gain_of_best": gain, "standard_error": standard_error}


def _most(task: Task, name: str) -> int:
    """The most that a trial can have of a part of its budget."""
    place = f"scales.{task.params.scale}.{name}"
    ends = [end for s in task.settings.values() if s.place == place for end in s.ends]
    return max(map(int, ends), default=getattr(task.params.budget, name))


def _best(
    complete: pd.DataFrame, trials: Sequence[FrozenTrial], settings: dict[str, Setting]
) -> dict:
    """The complete trial of the lowest log loss, and how many lie within its standard error."""
    if complete.empty:
        return {"best": None, "others_within_one_standard_error": 0}
    found = complete.loc[complete.log_loss.idxmin()]
    values = trials[found.trial].user_attrs["values"]
    best = {
        "trial": int(found.trial),
        "log_loss": float(found.log_loss),
        "standard_error": float(found.standard_error),
        "values": values,
        "overrides": [settings[name].override(value) for name, value in values.items()],
    }
    near = complete.log_loss <= found.log_loss + found.standard_error
    return {"best": best, "others_within_one_standard_error": int(near.sum()) - 1}


def sentences(summary: dict) -> list[str]:
    """What a study has found, and how sure that is."""
    budget, states, best = (summary[name] for name in ("budget", "states", "best"))
    done = sum(states.values())
    told = [
        f"{done} of {budget['trials']} trials have ended: {states['complete']} complete, "
        f"{states['stopped']} stopped early, {states['failed']} failed. Each has at most "
        f"{budget['epochs_at_most']} epoch{'s'[: budget['epochs_at_most'] > 1]} of "
        f"{budget['training_votes']:,} votes of at most {budget['max_tokens']:,} tokens. Every "
        "backbone that is tuned with these params has this budget."
    ]
    return [*told, *_on_the_best(summary)] if best else [*told, "No trial is complete."]


def _on_the_best(summary: dict) -> list[str]:
    best, inner = summary["best"], summary["inner_votes"]
    prior, near = inner["prior_log_loss"], summary["others_within_one_standard_error"]
    told = [
        f"The best is trial {best['trial']}: log loss {best['log_loss']:.4f}, standard error "
        f"{best['standard_error']:.4f}, on {inner['rows']:,} reserved votes in "
        f"{inner['groups']:,} prompt groups. The class prior has {prior:.4f} there."
    ]
    if best["log_loss"] >= prior:
        told.append(
            "Even the best trial is no better than the class prior: train longer or on more votes, "
            "or widen the ranges."
        )
    if near:
        told.append(
            f"{near} other complete trial{' lies' if near == 1 else 's lie'} within one standard "
            "error of it: another draw of reserved votes might choose another one."
        )
    told.append(_against_present(best["trial"], summary["present"]))
    told.append(
        "The best of several trials looks better here than it is; what it is worth, the outer "
        "folds tell."
    )
    return told


def _against_present(best: int, now: dict | None) -> str:
    if now is None:
        return "No complete trial has the settings of params.yaml: what they reach is not known."
    if now["trial"] == best:
        return "It has the settings of params.yaml: none of the others is better than these."
    gain, error = now["gain_of_best"], now["standard_error"]
    told = (
        f"Trial {now['trial']} has the settings of params.yaml. On the same votes the best is "
        f"better than these by {gain:.4f}, standard error {error:.4f}"
    )
    return f"{told}." if gain > 2 * error else f"{told}: that is no evidence that it is better."
