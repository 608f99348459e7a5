"""Stage `report`: the page of the current run, and its charts as files for documents."""

import argparse
from pathlib import Path

from stages import results
from stages.battles import TURNS, read_battles
from stages.errors import stage
from stages.report.page import write_pictures, write_run

PAGE = Path("metrics/report.html")
CHARTS = Path("metrics/report")


@stage
def main() -> None:
    """Write the page and the charts of this run, or only charts, also of several runs."""
    parser = argparse.ArgumentParser(prog="python -m stages.report", description=__doc__)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="only write charts there")
    parser.add_argument(
        "runs", nargs="*", default=[results.WORKSPACE], help="experiments or revisions to draw"
    )
    options = parser.parse_args()
    if options.pictures:
        runs = [results.fetch(name)[0] for name in options.runs]
        write_pictures(runs, options.pictures)
        return
    result = results.read(Path(), results.WORKSPACE)
    write_run(result, read_battles(["id", *TURNS]), PAGE)
    write_pictures([result], CHARTS)
    print(f"{PAGE}: {PAGE.stat().st_size / 2**20:.1f} MiB; open it in a browser")


if __name__ == "__main__":
    main()
