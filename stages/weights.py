"""Stage `weights`: resolve the backbone's checkpoint, check, fetch and record it."""

import json

from stages.config.errors import stage
from stages.config.params import load
from stages.config.paths import WEIGHTS
from stages.preflight.fetched import fetch_checked


@stage
def main() -> None:
    """Write models/weights.json; the weights themselves stay in the state folder."""
    record, folder = fetch_checked(load())
    WEIGHTS.parent.mkdir(exist_ok=True)
    WEIGHTS.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{record['checkpoint']} ({record['architecture']}) is in {folder}")


if __name__ == "__main__":
    main()
