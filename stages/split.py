"""Stage `split`: stratified folds in which no prompt, nor a near-copy of one, stands twice."""

from stages.config.errors import stage
from stages.config.json_files import write_json
from stages.config.params import load
from stages.config.paths import FOLDS, SPLIT_METRICS
from stages.votes.folds import deal
from stages.votes.prepared import read_battles


@stage
def main() -> None:
    """Read the battles; write the fold of each one that the scale uses, and the metrics."""
    params = load()
    battles = read_battles(["id", "prompt", "label"])
    k = len(params.split.folds)
    folds, metrics = deal(battles, params.budget.rows, k, params.seed)
    FOLDS.parent.mkdir(parents=True, exist_ok=True)
    folds.to_parquet(FOLDS, index=False)
    write_json(SPLIT_METRICS, metrics)
    print(f"{len(folds)} battles in {metrics['groups']} prompt groups, {k} folds")


if __name__ == "__main__":
    main()
