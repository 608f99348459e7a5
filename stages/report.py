"""Stage `report`: the page of the current run, and its charts as files for documents."""

import argparse
from pathlib import Path

from stages.config.errors import stage
from stages.config.paths import CHARTS, REPORT
from stages.pages.page import write_pictures, write_run
from stages.runs import finished
from stages.votes.prepared import read_battles
from stages.votes.rows import TURNS


@stage
def main() -> None:
    """Write the page and the charts of this run, or only charts, also of several runs."""
    parser = argparse.ArgumentParser(prog="python -m stages.report", description=__doc__)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="only write charts there")
    parser.add_argument(
        "runs", nargs="*", default=[finished.WORKSPACE], help="experiments or revisions to draw"
    )
    options = parser.parse_args()
    if options.pictures:
        runs = [finished.fetch(name)[0] for name in options.runs]
        write_pictures(runs, options.pictures)
        return
    result = finished.read(Path(), finished.WORKSPACE)
    write_run(result, read_battles(["id", "system", *TURNS]), REPORT)
    write_pictures([result], CHARTS)
    print(f"{REPORT}: {REPORT.stat().st_size / 2**20:.1f} MiB; open it in a browser")


if __name__ == "__main__":
    main()
