"""What products in FP8 change: trainings with and without them, of the same seeds and votes.

docs/results/elsewhere/lmsys-fp8 has a folder for each training with `train.fp8`. Its name without
"-fp8" is that of a training whose other settings are the same.
"""

from pathlib import Path

from bench.study.figures import both_intervals, markdown
from bench.study.restore import Restored, losses, restore
from stages.comparison import paired
from stages.comparison.entries import train_of
from stages.config.errors import UserError
from stages.pages.tables import interval
from stages.runs.finished import Result

FP8 = "-fp8"


def table(folder: Path, others: Restored) -> tuple[str, list[dict]]:
    """The table of all trainings in FP8 beside the others, and entries of the summary.

    Args:
        folder: of the trainings in FP8.
        others: runs on the same votes, the others among them.

    Raises:
        UserError: a training in FP8 has no other.
    """
    rows, entries = [], []
    for c in restore(folder, others.votes).combinations:
        own = losses(c.seeds).mean(axis=0)
        other = losses([_other(run, others) for run in c.seeds]).mean(axis=0)
        apart = both_intervals(own - other, paired.describe([c.seeds[0].rows]))
        told = (interval(*(over[k] for k in ("difference", "low", "high"))) for over in apart)
        means = {"log_loss": float(own.mean()), "log_loss_without_fp8": float(other.mean())}
        rows.append((c.name, str(len(c.seeds)), *(f"{x:.4f}" for x in means.values()), *told))
        rounded = {name: round(value, 5) for name, value in means.items()}
        entries.append({"name": c.name, **rounded, "seeds": len(c.seeds)})
    header = ("trainings", "log loss", "without FP8", "difference", "the same over folds")
    return markdown(header, rows), entries


def _other(run: Result, others: Restored) -> Result:
    """The training beside one in FP8, its votes in the same order."""
    name = run.name.replace(FP8, "")
    found = [other for other in others.runs if other.name == name]
    if not found:
        raise UserError(f"{run.name} was trained in FP8, and {name} is not beside it")
    if train_of(run.params) | {"fp8": False} != train_of(found[0].params):
        raise UserError(f"{run.name} and {name} were trained with other settings, too")
    if not found[0].rows.id.equals(run.rows.id):
        raise UserError(f"{run.name} and {name} have other votes, or these in another order")
    return found[0]
