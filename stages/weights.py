"""Stage `weights`: resolve the backbone's checkpoint, fetch it and record which one it is."""

import json

from stages.backbones import sources
from stages.backbones.layout import describe
from stages.config.errors import stage
from stages.config.params import load
from stages.config.paths import WEIGHTS
from stages.config.root import state


@stage
def main() -> None:
    """Write models/weights.json; the weights themselves stay in the state folder."""
    params = load()
    record = sources.resolve(params.checkpoint, params.model, params.budget.size, state())
    folder = sources.fetch(record, params.checkpoint, state())
    record = sources.with_digest(record, folder) | describe(folder)
    WEIGHTS.parent.mkdir(exist_ok=True)
    WEIGHTS.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{record['checkpoint']} ({record['architecture']}) is in {folder}")


if __name__ == "__main__":
    main()
