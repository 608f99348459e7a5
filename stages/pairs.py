"""Stage `pairs`: python -m stages.pairs KEY: read a file of teacher.pairs.

DVC calls them file0, file1, … in their order.
"""

import argparse

from stages.config.errors import UserError, stage
from stages.config.params import load
from stages.config.paths import lesson
from stages.distillation.pairs import read_pairs
from stages.votes.quarantine import check_quarantine


@stage
def main() -> None:
    """Write its pairs; what cannot be read is counted, and told."""
    parser = argparse.ArgumentParser(prog="python -m stages.pairs", description=__doc__)
    parser.add_argument("key", help="file0, file1, …")
    key, params = parser.parse_args().key, load()
    files = {f"file{place}": file for place, file in enumerate(params.teacher.pairs)}
    if key not in files:
        raise UserError(f"expected one of {', '.join(files) or 'no file'}, found {key}")
    pairs, bad, words = read_pairs(files[key], params.data)
    place = lesson("pairs", key)
    place.parent.mkdir(parents=True, exist_ok=True)
    listed = place.with_suffix(".unreadable.csv")
    bad.to_csv(listed, index=False, encoding="utf-8")
    rows = len(pairs) + len(bad)
    check_quarantine(bad, rows, params.data.max_quarantined, listed)
    pairs.to_parquet(place, index=False)
    told = f", {len(bad)} cannot be read: {listed}" if len(bad) else ""
    print(f"{files[key].raw} is taken for {words}: {rows:,} pairs without votes{told}")


if __name__ == "__main__":
    main()
