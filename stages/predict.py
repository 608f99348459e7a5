"""Predict battles without votes: Kaggle's test.csv in, its submission format out.

Every fold's model predicts every row in both orders; their mean, calibrated, is the prediction.
A row that cannot be read gets the class shares of the training votes and is listed. Rows are
predicted in parts that are kept, so that a prediction that was killed goes on when started again.
"""

import argparse
from pathlib import Path

from stages.config.errors import stage
from stages.runs.ensemble import Ensemble
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
    parser.add_argument("--input", type=Path, required=True, help="like Kaggle's test.csv")
    parser.add_argument("--output", type=Path, required=True, help="a .csv file")
    add_model_options(parser)
    options = parser.parse_args()
    check_output(options.output, options.input)
    total = count_rows(options.input)
    with model_folder(options.experiment, options.model) as folder:
        model = Ensemble(folder)
        key = fingerprint(options.input, folder)
    unreadable = submit(options.input, total, model, key, options.output)
    print(f"{total} rows predicted by {model.checkpoint}, {len(model)} folds: {options.output}")
    if unreadable:
        listed = written(options.output)[2]
        print(f"{unreadable} of them could not be read and got the class prior: {listed}")


if __name__ == "__main__":
    main()
