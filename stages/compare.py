"""python -m stages.compare RUN RUN […]: which backbone is better, with a page to show it."""

import argparse
import json
from pathlib import Path

from stages.comparison import losses
from stages.comparison.verdict import compare
from stages.config.errors import UserError, stage
from stages.config.paths import COMPARISON
from stages.pages.page import write_comparison
from stages.runs.finished import fetch, require_known


@stage
def main() -> None:
    """Compare runs, or a hand-written table of losses; print the verdict and write it."""
    arguments = _arguments()
    if arguments.summary:
        print(losses.text(losses.judge(losses.load(arguments.summary))))
        return
    if len(set(arguments.runs)) < 2:
        found = ", ".join(arguments.runs) or "none"
        raise UserError(
            f"expected the names of two runs or more, as `dvc exp list` gives them, found {found}"
        )
    for name in arguments.runs:  # before the first is fetched, which may take a while
        require_known(name)
    found = [fetch(name) for name in arguments.runs]
    results = [result for result, _ in found]
    comparison = compare(results)
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
    parser.add_argument("--summary", type=Path, metavar="FILE", help="judge a table of losses")
    parser.add_argument("--output", type=Path, default=COMPARISON, help=f"default: {COMPARISON}")
    return parser.parse_args()


def text(comparison: dict) -> str:
    """The runs as a table, the verdict, and what weakens it."""
    width = max(len(run["title"]) for run in comparison["runs"]) + 2
    lines = [f"{'':{width}}log loss  to beat  gain over that, 95 % interval     learned"]
    for run in comparison["runs"]:
        gain = f"{run['gain']:+.4f} [{run['gain_low']:+.4f}, {run['gain_high']:+.4f}]"
        lines.append(
            f"{run['title']:{width}}{run['log_loss']:8.4f} {run['to_beat']:8.4f}  "
            f"{gain:32}  {run['learned']}"
        )
    reasons = comparison["reasons"] if len(comparison["reasons"]) > 1 else []
    notes = [f"  reason: {reason}" for reason in reasons]
    notes += [f"  note: {warning}" for warning in comparison["warnings"]]
    verdict = f"{comparison['verdict'].upper()}. {comparison['sentence']}"
    return "\n".join([*lines, "", verdict, *notes])


if __name__ == "__main__":
    main()
