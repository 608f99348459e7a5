"""Stage `prepare`: parse the raw votes; what cannot be used is set aside and counted."""

from pathlib import Path

from stages.config.errors import stage
from stages.config.json_files import write_json
from stages.config.params import load
from stages.config.paths import PREPARE_METRICS, QUARANTINE
from stages.votes.battles import check_quarantine, prepare, write
from stages.votes.files import read_raw


@stage
def main() -> None:
    """Read data.raw; write the battles, the quarantine and the metrics."""
    params = load()
    raw = read_raw(Path(params.data.raw))
    battles, quarantine, metrics = prepare(raw)
    QUARANTINE.parent.mkdir(parents=True, exist_ok=True)
    quarantine.to_csv(QUARANTINE, index=False, encoding="utf-8")
    check_quarantine(quarantine, len(raw), params.data.max_quarantined)
    write(battles)
    write_json(PREPARE_METRICS, metrics)
    print(
        f"{metrics['rows_in']} rows: {metrics['rows_out']} battles, {metrics['duplicates']} "
        f"duplicates, {metrics['quarantined']} in quarantine"
    )


if __name__ == "__main__":
    main()
