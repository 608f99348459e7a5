"""Predict battles without votes: any layout of votes in, Kaggle's submission format out.

Every fold's model predicts every row in both orders; their mean, calibrated, is the prediction. A
refitted model does so alone. A blend's prediction is the calibrated mean of its members' log
probabilities. A row that cannot be read gets the class shares of the training votes and is listed.
Rows are predicted in parts that are kept, so that a prediction that was killed goes on when started
again.

--score gives single answers a score in place of that: a reward, or, where a column `reference` or
`references` stands beside them, a win rate. A row that cannot be read gets no score and is listed.

With GPUS=2 in the environment two processes share the rows, each on a GPU of its own.
"""

import argparse
import shutil
from pathlib import Path

from stages.config.errors import stage
from stages.config.params import load
from stages.config.paths import PARAMS
from stages.reward import files as scores
from stages.runs import submission
from stages.runs.batch import Job, work_out
from stages.runs.blended import require_model
from stages.runs.files import runs_of
from stages.runs.model_folder import add_model_options, model_folder
from stages.runs.parts import Task, fingerprint, kept_parts, part_files, tell_unreadable
from stages.runs.reckoning import Plan, add_plan_options


@stage
def main() -> None:
    """Write the submission, its parquet twin and the list of unreadable rows; or scores."""
    options = _options()
    given, output, folds = options.score or options.input, options.output, options.folds
    (scores if options.score else submission).check_output(output, given)
    with model_folder(options.experiment, options.model) as folder:
        data = load(runs_of(folder)[0] / PARAMS).data
        task: Task = submission.Battles(given, data)
        if options.score:
            task = scores.Answers(given, options.best_of)
        total, words = task.count()  # before the model, which takes a while
        print(f"{given} is taken for {words}", flush=True)
        require_model(folder)
        with kept_parts(output, fingerprint(given, folder, folds)) as kept:
            job = Job(task, folder, folds, kept, total)
            model = work_out(job, Plan(options.plan, options.within))
            if not model:
                return
            bad, listed = task.join(part_files(kept, total).values(), output)
            shutil.rmtree(kept.parent)
    print(f"{total} rows {task.done} by {model}: {output}")
    tell_unreadable(bad, total, task.instead, listed, data.max_quarantined)


def _options() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m stages.predict", None, __doc__, formatter_class=raw)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--input", type=Path, metavar="FILE", help="battles, with votes or without")
    told = "prompts and responses, or messages, of which the last is the answer"
    given.add_argument("--score", type=Path, metavar="FILE", help=told)
    told = "a .csv file; of scores also .jsonl or .parquet"
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=told)
    told = "the best of each list in `responses`, or of the rows with one prompt, and their order"
    parser.add_argument("--best-of", action="store_true", help=told)
    add_model_options(parser)
    add_plan_options(parser)
    options = parser.parse_args()
    if options.best_of and not options.score:
        parser.error("--best-of ranks scores: give the file with --score")
    return options


if __name__ == "__main__":
    main()
