"""Stage `auxiliary`: python -m stages.auxiliary KEY: read one of the files in data.auxiliary.

DVC calls them file0, file1, … in their order.
"""

import argparse

from stages.config.data import by_key
from stages.config.errors import stage
from stages.config.params import load
from stages.config.paths import auxiliary
from stages.votes.accounts import prepare
from stages.votes.parts import save, tell


@stage
def main() -> None:
    """Write what became of the file; `prepare` joins it with the rest."""
    parser = argparse.ArgumentParser(prog="python -m stages.auxiliary", description=__doc__)
    parser.add_argument("key", help="file0, file1, …")
    key, params = parser.parse_args().key, load()
    file = by_key(params.data.auxiliary, key)
    part = prepare(file, params.data, params.seed)
    save(part, auxiliary(key), params.data.max_quarantined)
    tell(file.raw, part)


if __name__ == "__main__":
    main()
