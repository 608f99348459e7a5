"""Stage `evaluate`: out-of-fold metrics, whether the backbone learned, and plots."""

from stages.config.errors import stage
from stages.config.json_files import write_json
from stages.config.params import load
from stages.config.paths import CALIBRATION, METRICS, OUT_OF_FOLD, PROVENANCE
from stages.scoring.baselines import BASELINES
from stages.scoring.learning import reference
from stages.scoring.metrics import cost, evaluate
from stages.scoring.out_of_fold import all_probabilities, out_of_fold_table
from stages.scoring.plots import loss_before_training, write_plots
from stages.scoring.predictions import (
    order_probabilities,
    read_baselines,
    read_curves,
    read_predictions,
    read_summaries,
)
from stages.scoring.sentences import how_far_votes_agree, printout
from stages.votes.labels import votes_of
from stages.votes.prepared import read_folded_battles
from stages.votes.rows import TURNS
from stages.votes.summary import agreement, as_table


@stage
def main() -> None:
    """Write metrics, plots, out-of-fold table, calibration and provenance; print the result."""
    params = load()
    rows = read_folded_battles(["source", "language", *TURNS], params.split.folds)
    predictions = read_predictions(rows)
    summaries, curves = read_summaries(params.split.folds), read_curves(params.split.folds)
    objective, offset = summaries[0]["objective"], summaries[0].get("offset", False)

    ab, ba = order_probabilities(predictions)
    baselines = read_baselines(rows, BASELINES)
    probabilities, calibration = all_probabilities(rows, ab, ba, baselines, params.evaluate)
    start = reference(offset)
    metrics, ladder = evaluate(rows, probabilities, params.evaluate, params.seed, start)
    metrics |= cost(summaries, predictions) | {"several_votes": agreement(as_table(rows))}

    write_json(METRICS, metrics)
    write_json(CALIBRATION, calibration)
    write_json(PROVENANCE, summaries)
    out_of_fold_table(rows, predictions, probabilities).to_parquet(OUT_OF_FOLD, index=False)
    to_beat = metrics["baselines"][metrics["reference"]]
    first = loss_before_training(objective, offset, to_beat, metrics["n_classes"])
    write_plots(curves, votes_of(rows), probabilities["backbone"], to_beat, first)
    name = summaries[0]["checkpoint"]["checkpoint"]
    print(printout(metrics, ladder, name, params.evaluate.confidence))
    if metrics["several_votes"]["pairs"]:
        print(how_far_votes_agree(metrics["several_votes"]))


if __name__ == "__main__":
    main()
