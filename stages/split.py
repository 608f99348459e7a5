"""Stage `split`: stratified folds in which nothing that a user wrote stands twice."""

import pyarrow.parquet as pq

from stages.config.errors import stage
from stages.config.json_files import write_json
from stages.config.params import load
from stages.config.paths import BATTLES, FOLDS, SPLIT_METRICS
from stages.votes.folds import deal
from stages.votes.groups import find_groups
from stages.votes.labels import TARGETS
from stages.votes.prepared import read_battles


@stage
def main() -> None:
    """Read the battles; write the fold of each one that the scale uses, and the metrics."""
    params = load()
    battles = read_battles(["id", "prompt", "weight", *TARGETS])
    if "training_only" in pq.read_schema(BATTLES).names:
        battles = battles.assign(training_only=read_battles(["training_only"]).training_only)
    grouping = find_groups(battles.pop("prompt"))
    if warning := grouping.warning():
        print(warning)
    k = len(params.split.folds)
    folds, metrics = deal(battles.assign(group=grouping.names), params.budget.rows, k, params.seed)
    FOLDS.parent.mkdir(parents=True, exist_ok=True)
    folds.to_parquet(FOLDS, index=False)
    write_json(SPLIT_METRICS, metrics)
    largest = metrics["largest_group"]
    print(
        f"{metrics['rows']} battles in {metrics['groups']} prompt groups, {k} folds; the largest "
        f"group has {largest['rows']} ({largest['share']:.1%})"
    )


if __name__ == "__main__":
    main()
