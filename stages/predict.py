"""Predict battles without votes: any layout of votes in, Kaggle's submission format out.

Every fold's model predicts every row in both orders; their mean, calibrated, is the prediction. A
refitted model does so alone. A blend's prediction is the calibrated mean of its members' log
probabilities. A row that cannot be read gets the
class shares of the training votes and is listed. Rows are predicted in parts that are kept, so that
a prediction that was killed goes on when started again.
"""

import argparse
from pathlib import Path

from stages.config.errors import UserError, stage
from stages.config.params import load
from stages.config.paths import PARAMS
from stages.runs.blended import load_model
from stages.runs.files import runs_of
from stages.runs.model_folder import add_model_options, model_folder
from stages.runs.parts import fingerprint
from stages.runs.submission import check_output, count_rows, submit, written


@stage
def main() -> None:
    """Write the submission, its parquet twin and the list of unreadable rows."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--input", type=Path, required=True, help="votes, or such a file without votes"
    )
    parser.add_argument("--output", type=Path, required=True, help="a .csv file")
    add_model_options(parser)
    options = parser.parse_args()
    check_output(options.output, options.input)
    with model_folder(options.experiment, options.model) as folder:
        data = load(runs_of(folder)[0] / PARAMS).data
        total, words = count_rows(options.input, data)  # before the model, which takes a while
        print(f"{options.input} is taken for {words}")
        model = load_model(folder)
        key = fingerprint(options.input, folder)
    unreadable = submit(options.input, total, model, key, options.output)
    models = "one refitted model" if len(model) == 1 else f"{len(model)} folds"
    print(f"{total} rows predicted by {model.checkpoint}, {models}: {options.output}")
    if not unreadable:
        return
    listed = written(options.output)[2]
    told = f"{unreadable} of them could not be read and got the class prior: {listed}"
    if unreadable <= data.max_quarantined * total:
        print(told)
        return
    raise UserError(f"{told}. data.max_quarantined allows {data.max_quarantined:.2%} of the rows")


if __name__ == "__main__":
    main()
