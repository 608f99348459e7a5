"""Stage `baselines`: what predicts votes without a language model, on the backbones' folds."""

from stages.config.errors import stage
from stages.config.json_files import write_json
from stages.config.params import load
from stages.config.paths import BASELINE_PREDICTIONS, BASELINES_METRICS
from stages.counting.features import count_features
from stages.scoring.baselines import predict_baselines
from stages.scoring.metrics import rungs
from stages.scoring.predictions import columns
from stages.votes.labels import votes_of
from stages.votes.prepared import read_folded_battles


@stage
def main() -> None:
    """Write each baseline's out-of-fold predictions and their metrics."""
    params = load()
    # Backbones train on reserved votes and on folds that are not evaluated, so baselines do; the
    # predictions for these are left out.
    battles = read_folded_battles(["prompt", "response_a", "response_b"])
    predictions = predict_baselines(battles, count_features(battles), battles.fold.to_numpy())
    held_out = battles.fold.isin(params.split.folds)
    predictions = {name: found[held_out] for name, found in predictions.items()}
    battles = battles[held_out]
    votes, groups = votes_of(battles), battles.group.to_numpy()
    metrics = rungs(votes, predictions, groups, params.evaluate, params.seed)

    BASELINE_PREDICTIONS.parent.mkdir(parents=True, exist_ok=True)
    table = battles[["id", "fold"]].assign(**columns(predictions))
    table.to_parquet(BASELINE_PREDICTIONS, index=False)
    write_json(BASELINES_METRICS, metrics)
    for name, values in metrics.items():
        print(f"{name:14}{values['log_loss']:8.4f}")


if __name__ == "__main__":
    main()
