"""Stage `prepare`: make the table of votes; what cannot be used is set aside and counted."""

from stages.config.errors import stage
from stages.config.json_files import write_json
from stages.config.params import load
from stages.config.paths import PREPARE_METRICS, QUARANTINE
from stages.votes.accounts import prepare
from stages.votes.battles import write
from stages.votes.parts import join, read_auxiliary, tell, tell_repeated
from stages.votes.quarantine import set_aside


@stage
def main() -> None:
    """Read data.raw and what `auxiliary` made; write the table, the quarantine and the metrics."""
    params = load()
    own = prepare(params.data, params.data, params.seed)
    limit = params.data.max_quarantined
    set_aside(own.quarantine, own.counts["rows_in"], limit, QUARANTINE)
    parts = [own, *read_auxiliary(params.data)]
    battles, quarantine, metrics = join(parts)
    quarantine.to_csv(QUARANTINE, index=False, encoding="utf-8")
    write(battles)
    write_json(PREPARE_METRICS, metrics)
    tell(params.data.raw, own)
    if params.data.auxiliary:
        tell_repeated(params.data.auxiliary, parts)


if __name__ == "__main__":
    main()
