"""How often a run gives the chosen answer a higher score than the rejected one, by subset.

The file has RewardBench's columns prompt, chosen, rejected and subset. A run with train.objective
`reward` scores each answer by itself; any other run compares both, in both orders. Equal scores
count half. The interval is Wilson's.
"""

import argparse
from pathlib import Path

from stages.config.errors import stage
from stages.config.json_files import write_json
from stages.config.params import load
from stages.config.paths import PARAMS
from stages.reward import rewardbench
from stages.reward.scorer import Scorer
from stages.runs.blended import load_model
from stages.runs.files import runs_of
from stages.runs.model_folder import add_model_options, model_folder


@stage
def main() -> None:
    """Print the accuracies, and write them."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m stages.rewardbench", None, __doc__, formatter_class=raw
    )
    parser.add_argument("file", type=Path, help="of chosen and rejected answers")
    parser.add_argument("--output", type=Path, metavar="JSON", help="where to write them, too")
    add_model_options(parser)
    options = parser.parse_args()
    with model_folder(options.experiment, options.model) as folder:
        data = load(runs_of(folder)[0] / PARAMS).data
        pairs = rewardbench.read_pairs(options.file, data)  # before the model, which takes a while
        scorer = Scorer(load_model(folder))
    margins = rewardbench.margins(pairs.battles, scorer)
    found = rewardbench.accuracies(pairs.battles.subset, margins)
    print(rewardbench.table(found, pairs.unreadable))
    if options.output:
        by = "reward" if scorer.alone else "win rate"
        about = {"file": str(options.file), "model": scorer.model.checkpoint, "scored_by": by}
        write_json(options.output, {**about, **found, "unreadable": pairs.unreadable})
        print(f"\n{options.output} written")


if __name__ == "__main__":
    main()
