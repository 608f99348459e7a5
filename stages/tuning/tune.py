"""Tuning of one backbone: its trials, their record, and its winner."""

import shlex
import warnings

import transformers

from stages.config import paths
from stages.config.errors import UserError
from stages.config.json_files import write_json
from stages.config.root import state
from stages.pages.tuning import write_tuning
from stages.tuning.experiment import command, start
from stages.tuning.history import sentences, summary, table
from stages.tuning.study import Study, open_study
from stages.tuning.task import Task


def tune(task: Task, queue: bool) -> None:
    """Run the trials that are left, recording all after each; then hand the winner to DVC.

    Args:
        queue: put the winner into DVC's queue instead of running it now.

    Raises:
        UserError: see stages.tuning.study and experiment; or no trial is complete.
    """
    transformers.logging.set_verbosity_error()  # gates and errors are ours to tell
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # PEFT's calls
    model = task.params.model
    with open_study(task, state() / "tuning") as study:
        done = len(study.ended())
        print(f"{model}: {done} of {task.tune.trials} trials have ended before")
        found = _record(study)
        for number in range(done, task.tune.trials):
            study.run_trial(number)
            found = _record(study)
            print(_outcome(study))
        print("\n" + "\n".join(sentences(found)))
        kinds = ("csv", "json", "html")
        print(f"{', '.join(str(paths.tuning(model, kind)) for kind in kinds)} written")
        if found["best"] is None:
            raise UserError(
                f"no trial of {model} is complete, so there is no winner: the column `reason` of "
                f"{paths.tuning(model, 'csv')} says why"
            )
        _hand_over(study, found["best"]["overrides"], queue)


def _hand_over(study: Study, overrides: list[str], queue: bool) -> None:
    """Give the winner to DVC, once."""
    task = study.task
    words = command(task.params.model, [*task.overrides, *overrides], queue)
    print(f"$ {shlex.join(words)}", flush=True)
    if study.trials.user_attrs.get("experiment") == words:
        print("DVC has been given this winner before")
        return
    start(words, "the winner", "The study is recorded: given again, this command repeats no trial")
    study.trials.set_user_attr("experiment", words)


def _record(study: Study) -> dict:
    """Write table, summary and page of the trials so far; returns the summary."""
    task, trials = study.task, study.ended()
    history = table(trials, task.settings)
    found = summary(task, study.record["checkpoint"], trials)
    model = task.params.model
    write_json(paths.tuning(model, "json"), found)
    history.to_csv(paths.tuning(model, "csv"), index=False)
    write_tuning(history, found, sentences(found), paths.tuning(model, "html"))
    return found


def _outcome(study: Study) -> str:
    """The last trial in a line."""
    history = table(study.ended(), study.task.settings)
    last, complete = history.iloc[-1], history[history.state == "complete"]
    losses = {
        "complete": f"log loss {last.log_loss:.4f}",
        "stopped": f"stopped early at {last.log_loss:.4f}, after {last.epochs_seen:g} epochs",
        "failed": f"failed: {last.reason}",
    }
    best = f"; best so far {complete.log_loss.min():.4f}" if len(complete) else ""
    return f"trial {last.trial}: {losses[last.state]}, {last.seconds:.0f} s{best}"
