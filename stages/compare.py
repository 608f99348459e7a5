"""python -m stages.compare RUN RUN […]: which backbone is better, with a page to show it."""

import argparse
import json
from pathlib import Path

from stages.comparison import posted
from stages.comparison.compare import compare
from stages.comparison.looks import ONLY, read_look
from stages.comparison.words import text
from stages.config.errors import UserError, stage
from stages.config.outputs import require_json
from stages.config.paths import COMPARISON
from stages.pages.page import write_comparison
from stages.runs.finished import fetch, require_known


@stage
def main() -> None:
    """Compare runs, or a hand-written table of losses; print the verdict and write it."""
    arguments = _arguments()
    if arguments.summary:
        print(posted.text(posted.assess(posted.load(arguments.summary))))
        return
    if len(set(arguments.runs)) < 2:
        named = ", ".join(arguments.runs) or "none"
        raise UserError(
            "expected the names of two different runs or more, as `dvc exp list` gives them, found "
            f"{named}"
        )
    look = read_look(arguments.look) if arguments.look else ONLY
    require_json(arguments.output)
    for name in arguments.runs:  # before the first is fetched, which may take a while
        require_known(name)
    found = [fetch(name) for name in arguments.runs]
    results = [result for result, _ in found]
    comparison = compare(results, look=look)
    print(text(comparison))
    page = arguments.output.with_suffix(".html")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(comparison, indent=2, allow_nan=False, ensure_ascii=False)
    arguments.output.write_text(content + "\n", encoding="utf-8")
    texts = next((texts for _, texts in found if texts is not None), None)
    write_comparison(results, comparison, texts, page)
    print(f"\n{arguments.output} and {page} written")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description=__doc__)
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="`workspace`, a DVC experiment, a git revision, or an MLflow run's id",
    )
    parser.add_argument(
        "--look",
        metavar="K/N",
        help="this is look K of N that were planned before the first; see stages.settle",
    )
    parser.add_argument("--summary", type=Path, metavar="FILE", help="judge a table of losses")
    parser.add_argument("--output", type=Path, default=COMPARISON, help=f"default: {COMPARISON}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
