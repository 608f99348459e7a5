"""python -m stages.ratings [FILE]: rate the models whose answers the votes compare.

Bradley-Terry ratings on the arena's scale, as they are and with length and format held constant.
With --predictions also by what a run or a file predicts of the same votes, side by side. The votes
need the names of the models, in the columns model_a and model_b.
"""

import argparse
from pathlib import Path

from stages.config.errors import UserError, stage
from stages.config.json_files import write_json
from stages.config.params import load
from stages.config.paths import RATINGS
from stages.pages.ratings import write_ratings
from stages.ranking.predicted import predicted_wins
from stages.ranking.rated import rated
from stages.ranking.ratings import Settings, rate
from stages.ranking.reading import read
from stages.ranking.words import text


@stage
def main() -> None:
    """Print the ratings, and write them as JSON and as a page."""
    options = _arguments()
    params = load()
    battles, place = read(options.file, params)
    unpredicted = 0
    if options.predictions:
        battles["predicted"] = battles.id.map(predicted_wins(options.predictions))
        unpredicted = int(battles.predicted.isna().sum())
        battles = battles.dropna(subset="predicted")
        if battles.empty:
            raise UserError(
                f"expected predictions by {options.predictions} of the votes in {place}, found "
                f"none of their {unpredicted:,} ids: name the file of votes that it predicts"
            )
    found = rated(battles, place, options.min_votes)
    settings = Settings(options.min_votes, options.draws, params.evaluate.confidence, params.seed)
    document = rate(found, settings)
    document["left_out"]["without_prediction"] = unpredicted
    print(text(document))
    page = options.output.with_suffix(".html")
    write_json(options.output, document)
    write_ratings(document, place, options.predictions, page)
    print(f"\n{options.output} and {page} written")


def _arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m stages.ratings", None, __doc__, formatter_class=raw)
    add = parser.add_argument
    add("file", nargs="?", type=Path, metavar="FILE", help="votes; default: those of data.raw")
    told = "`workspace`, an experiment, a revision, an MLflow run, or a file of predictions by id"
    add("--predictions", metavar="RUN", help=told)
    told = "a model with fewer votes is not rated; default: %(default)s"
    add("--min-votes", type=_positive, default=30, metavar="N", help=told)
    told = "of the bootstrap; default: %(default)s"
    add("--draws", type=_positive, default=1000, metavar="N", help=told)
    add("--output", type=Path, default=RATINGS, help="default: %(default)s")
    return parser.parse_args()


def _positive(given: str) -> int:
    if not given.isdigit() or int(given) == 0:
        raise argparse.ArgumentTypeError(f"expected a number from 1, found {given!r}")
    return int(given)


if __name__ == "__main__":
    main()
