"""A study: trials one after another, kept by Optuna so that a killed study goes on."""

import gc
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
import torch
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from stages.config.errors import UserError
from stages.config.params import Params
from stages.config.paths import BATTLES
from stages.preflight.fetched import fetch_checked
from stages.scoring.predictions import order_probabilities
from stages.scoring.scores import example_losses
from stages.training.fingerprint import fingerprint
from stages.training.fold import train_fold
from stages.training.gates.gate import GateFailed
from stages.tuning.space import present
from stages.tuning.task import Task
from stages.tuning.watch import Watch, pruner

NO_FOLD = -1  # in a fingerprint that is otherwise that of a fold


@dataclass(frozen=True)
class Study:
    """The trials of a task so far, and what the next ones need.

    Attributes:
        record: of the checkpoint, as models/weights.json has it.
        weights: its folder.
        trials: Optuna's study.
        folder: of the trials' checkpoints.
    """

    task: Task
    record: dict
    weights: Path
    trials: optuna.Study
    folder: Path

    def ended(self) -> list[FrozenTrial]:
        """The trials that came to an end of their own: one that was killed says nothing."""
        by_themselves = (TrialState.COMPLETE, TrialState.PRUNED)
        return [
            trial
            for trial in self.trials.trials
            if trial.state in by_themselves or "reason" in trial.user_attrs.get("outcome", {})
        ]

    def run_trial(self, number: int) -> None:
        """Draw values, train with them, and tell Optuna what came of it.

        The first trial has the settings of params.yaml, if the ranges have them, so that what is
        chosen can be compared with what was there. The sampler is seeded by the number. A killed
        study thus draws what it would have drawn, and the trial that was killed goes on from its
        checkpoint.

        Args:
            number: how many trials have ended before.
        """
        task = self.task
        seed, startup = task.params.seed + number, task.tune.startup
        self.trials.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        now = present(task.settings)
        if number == 0 and now and not self.trials.get_trials(states=[TrialState.WAITING]):
            self.trials.enqueue_trial(now)
        trial = self.trials.ask({name: s.distribution for name, s in task.settings.items()})
        values = {name: task.settings[name].told(value) for name, value in trial.params.items()}
        trial.set_user_attr("values", values)
        print(f"trial {number}: {told(values)}", flush=True)
        watch, start, params = Watch(trial), time.perf_counter(), task.changed(values)
        folder = self.folder / f"trial-{number}"
        folder.mkdir(exist_ok=True)
        loss, state, outcome = self._outcome(params, watch, folder)
        outcome |= {"epochs": watch.seen * params.budget.epochs}
        outcome |= {"seconds": time.perf_counter() - start}
        trial.set_user_attr("outcome", outcome)
        self.trials.tell(trial, loss, state)
        shutil.rmtree(folder)
        _free()

    def _outcome(
        self, params: Params, watch: Watch, folder: Path
    ) -> tuple[float | None, TrialState, dict]:
        """The inner log loss, both orders averaged; its standard error, or why there is none."""
        inner = self.task.inner
        try:
            trained = train_fold(
                self.weights, inner.training, inner.held_out, params, folder, [watch]
            )
        except optuna.TrialPruned:
            return None, TrialState.PRUNED, {}
        except GateFailed as error:
            found = (f"{g.name}: found {g.value}, expected {g.expected}" for g in error.gates)
            return None, TrialState.FAIL, {"reason": "; ".join(found)}
        ab, ba = order_probabilities(trained.predictions)
        losses = example_losses(inner.votes, (ab + ba) / 2)
        loss, standard_error = inner.mean(losses)
        outcome = {"standard_error": standard_error, "losses": losses.round(6).tolist()}
        return loss, TrialState.COMPLETE, outcome


def told(values: dict) -> str:
    """Values of settings in a line."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


@contextmanager
def open_study(task: Task, folder: Path) -> Iterator[Study]:
    """The study of a task, new or as a kill has left it.

    Args:
        folder: of all studies.

    Raises:
        UserError: the checkpoint cannot serve, or another process runs the same study.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    record, weights = fetch_checked(task.params)
    own = folder / key(task, record)
    own.mkdir(parents=True, exist_ok=True)
    with _alone(own.with_suffix(".lock"), task.params.model):
        trials = optuna.create_study(
            storage=f"sqlite:///{own / 'study.db'}",
            study_name=task.params.model,
            pruner=pruner(task.tune.startup),
            load_if_exists=True,
        )
        for trial in trials.get_trials(states=[TrialState.RUNNING]):  # of a process that is gone
            trials.tell(trial.number, state=TrialState.FAIL)
        yield Study(task, record, weights, trials, own)


def key(task: Task, record: dict) -> str:
    """A hash of votes, folds, ranges, code, libraries and of all params but the tuned ones."""
    fixed = task.changed({name: setting.ends[0] for name, setting in task.settings.items()})
    folds = (part[["id", "group", "fold"]] for part in (task.inner.training, task.inner.held_out))
    parts = [
        fingerprint(record, NO_FOLD, fixed, [BATTLES]),
        *(part.to_csv() for part in folds),
        *(f"{setting.place} {setting.distribution}" for setting in task.settings.values()),
        [task.params.seed, task.tune.startup, optuna.__version__],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@contextmanager
def _alone(path: Path, model: str) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"another process runs this study of {model} ({path} is locked): wait for it, or end it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _free() -> None:
    """Give the model's memory back, and forget what was compiled for it."""
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
