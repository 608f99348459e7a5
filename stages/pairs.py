"""Stage `pairs`: python -m stages.pairs KEY: read a file of teacher.pairs.

DVC calls them file0, file1, … in their order.
"""

import argparse

from stages.config.data import by_key
from stages.config.errors import stage
from stages.config.params import load
from stages.config.paths import lesson
from stages.distillation.pairs import PAIRS, UNREADABLE, read_pairs
from stages.votes.quarantine import set_aside


@stage
def main() -> None:
    """Write its pairs; what cannot be read is counted, and told."""
    parser = argparse.ArgumentParser(prog="python -m stages.pairs", description=__doc__)
    parser.add_argument("key", help="file0, file1, …")
    key, params = parser.parse_args().key, load()
    file = by_key(params.teacher.pairs, key)
    pairs, bad, words = read_pairs(file, params.data)
    place, rows = lesson("pairs", key), len(pairs) + len(bad)
    set_aside(bad, rows, params.data.max_quarantined, place / UNREADABLE)
    pairs.to_parquet(place / PAIRS, index=False)
    told = f", {len(bad)} cannot be read: {place / UNREADABLE}" if len(bad) else ""
    print(f"{file.raw} is taken for {words}: {rows:,} pairs without votes{told}")


if __name__ == "__main__":
    main()
