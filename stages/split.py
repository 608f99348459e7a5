"""Stage `split`: stratified folds in which nothing that a user wrote stands twice."""

from stages.config.errors import stage
from stages.config.json_files import write_json
from stages.config.params import load
from stages.config.paths import FOLDS, SPLIT_METRICS
from stages.votes.folds import fold_battles


@stage
def main() -> None:
    """Read the battles; write the fold of each one that the scale uses, and the metrics."""
    params = load()
    folds, metrics, warning = fold_battles(params)
    if warning:
        print(warning)
    FOLDS.parent.mkdir(parents=True, exist_ok=True)
    folds.to_parquet(FOLDS, index=False)
    write_json(SPLIT_METRICS, metrics)
    largest, trained, dealt = metrics["largest_group"], len(params.split.folds), params.split.dealt
    print(
        f"{metrics['rows']} battles in {metrics['groups']} prompt groups, {dealt} folds; the "
        f"largest group has {largest['rows']} ({largest['share']:.1%})"
    )
    if trained < dealt:
        print(f"{trained} of the folds are trained and evaluated (split.folds)")
    if "tuning" in metrics:
        print(f"{metrics['tuning']['rows']} more are reserved for tuning: no fold holds them out")


if __name__ == "__main__":
    main()
