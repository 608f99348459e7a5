"""Stage `weights`: resolve the backbone's checkpoint, fetch it and record which one it is."""

import json
from pathlib import Path

from stages import backbones
from stages.errors import stage
from stages.params import load
from stages.root import state

WEIGHTS = Path("models/weights.json")


@stage
def main() -> None:
    """Write models/weights.json; the weights themselves stay in the state folder."""
    params = load()
    record = backbones.resolve(params.checkpoint, params.model, params.budget.size, state())
    folder = backbones.fetch(record, params.checkpoint, state())
    record |= backbones.describe(folder)
    WEIGHTS.parent.mkdir(exist_ok=True)
    WEIGHTS.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{record['checkpoint']} ({record['architecture']}) is in {folder}")


if __name__ == "__main__":
    main()
