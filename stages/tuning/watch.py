"""A trial's training, watched: where it stands, and whether it is worth going on."""

import math

import optuna
from transformers import TrainerCallback, TrainerControl, TrainerState

PARTS = 4
RULE = (
    "The inner log loss, with the answers in one order, is taken after each quarter of a trial's "
    "own steps. A trial is stopped after the second or third quarter if its best so far is worse "
    "than the median of the complete trials at the same quarter."
)


def pruner(startup: int) -> optuna.pruners.BasePruner:
    """What stops losing trials, by RULE; never before so many trials have ended.

    Trials are compared by shares of their steps, since a longer one is early in its schedule when a
    shorter one has ended.

    Source: Golovin et al. 2017, Google Vizier, section 3.2: the median stopping rule.
    """
    return optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=2)


class Watch(TrainerCallback):
    """Reports a training's inner losses to its trial, and ends it if the pruner says so.

    Attributes:
        seen: the share of the steps that were made.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial, self.seen = trial, 0.0

    def on_train_begin(self, args: object, state: TrainerState, *_: object, **__: object) -> None:
        """Report what was logged before a kill."""
        for entry in state.log_history:
            self._report(entry, entry.get("step", 0), state.max_steps)

    def on_step_end(
        self, args: object, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Ask for a loss where a quarter ends."""
        self.seen = state.global_step / state.max_steps
        if state.global_step in quarters(state.max_steps):
            control.should_evaluate = True

    def on_log(
        self,
        args: object,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **_: object,
    ) -> None:
        """Report the loss.

        Raises:
            TrialPruned: the trial is not worth going on.
        """
        if self._report(logs, state.global_step, state.max_steps) and self.trial.should_prune():
            raise optuna.TrialPruned

    def _report(self, logs: dict[str, float], step: int, steps: int) -> bool:
        """A loss that is no number is left to the gates."""
        quarter, loss = quarters(steps).get(step), logs.get("eval_loss", math.nan)
        if quarter is None or not math.isfinite(loss):
            return False
        self.trial.report(loss, quarter)
        return True


def quarters(steps: int) -> dict[int, int]:
    """The number of each quarter that ends before the last step, by the step at which it does."""
    ends = {round(steps * quarter / PARTS): quarter for quarter in range(1, PARTS)}
    return {step: quarter for step, quarter in ends.items() if 0 < step < steps}
