"""Stage `teacher`: python -m stages.teacher FOLD: what a teacher says of a fold's training votes.

A teacher must not have seen the votes that the fold holds out: else the student learns them at
second hand. Of a finished run the model of the same fold teaches, which never saw them.
"""

import argparse

import pandas as pd

from stages.config.errors import stage
from stages.config.json_files import write_json
from stages.config.params import Params, load
from stages.config.paths import FOLDS, teacher, teacher_facts
from stages.config.root import state
from stages.devices import gpus
from stages.training.soft_targets import LESSON
from stages.votes.prepared import read_battles
from stages.votes.rows import TURNS


@stage
def main() -> None:
    """Write the fold's lessons, which are none without a teacher, and who gave them."""
    parser = argparse.ArgumentParser(prog="python -m stages.teacher", description=__doc__)
    parser.add_argument("fold", type=int)
    fold, params = parser.parse_args().fold, load()
    if not params.teacher.teaches:
        _write(fold, pd.DataFrame(columns=list(LESSON)), {})
        return
    with gpus.taken(1, state() / "gpus"):
        _teach(fold, params)


def _teach(fold: int, params: Params) -> None:
    """Import what looks for GPUs, and DVC, now that both are needed."""
    from stages.distillation.lessons import lessons, origin, tell

    columns = ["id", "source", "weight", "target_tie", *TURNS, "system"]
    battles = read_battles(columns).merge(pd.read_parquet(FOLDS), on="id", validate="1:1")
    table, counts = lessons(params.teacher, params.data, fold, battles)
    whose = origin(params.teacher, fold)
    tell(fold, counts, whose)
    _write(fold, table, counts | whose)


def _write(fold: int, table: pd.DataFrame, facts: dict) -> None:
    write_json(teacher_facts(fold), facts)
    table.to_parquet(teacher(fold), index=False)


if __name__ == "__main__":
    main()
