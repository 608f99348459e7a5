"""Rebuild every figure of docs/results_appendix.md from shipped predictions and your own votes.

    python -m bench.study VOTES

VOTES is the file of raw votes that the runs were trained on, or one that holds its votes. Prints
the figures, and ends with exit status 1 if the document has others. Two minutes on one core.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from bench.study import contents, document, figures, pooling
from bench.study.learning_curve import learning_curve
from bench.study.restore import FOLDER, Combination, Restored, read_votes, restore
from stages.config.errors import UserError, stage
from stages.pages.figures import of_runs
from stages.runs.finished import Result

DOCUMENT = Path("docs/results_appendix.md")


@stage
def main() -> None:
    """Print the rebuilt figures; compare them with the document, or write them there."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("votes", type=Path, help="the file of raw votes")
    parser.add_argument("--write", action="store_true", help="bring the document up to date")
    options = parser.parse_args()
    votes = read_votes(FOLDER, options.votes)
    restored = restore(FOLDER, votes)
    found = blocks(restored)
    for name, body in found.items():
        print(f"{name}\n\n{body}\n")
    written = DOCUMENT.read_text(encoding="utf-8")
    rebuilt = document.fill(written, found)
    if options.write:
        DOCUMENT.write_text(rebuilt, encoding="utf-8")
        _write_results(restored)
    elif rebuilt != written:
        raise UserError(f"{DOCUMENT} differs:\n{document.difference(written, rebuilt)}")
    print(f"{DOCUMENT} has these figures")


def blocks(restored: Restored) -> dict[str, str]:
    """The document's generated parts, by name; in wide ones, backbones given no counts."""
    combinations, plain = restored.combinations, restored.plain
    return {
        "trained": figures.trained(combinations),
        "ladder": figures.ladder(combinations),
        "by-fold": figures.by_fold(combinations),
        "verdict": figures.verdicts(combinations),
        "pairs": figures.pairs(combinations),
        "against-counts": figures.against_counts(combinations),
        "beyond": figures.beyond(combinations),
        "pooled": pooling.pooled(combinations),
        "parts-of-gain": contents.parts_of_gain(combinations),
        "reading": contents.reading(plain, restored.votes),
        "second-stage": contents.second_stage(plain),
        "slices": figures.slices(plain),
        "learning-curve": learning_curve(restored),
        "cost": figures.cost(plain),
        "tuning": figures.probes(FOLDER / "tuning.csv"),
        "tuning-offset": figures.probes(FOLDER / "tuning_offset.csv"),
        "changes": figures.probes(FOLDER / "changes.csv"),
        "probes": figures.probes(FOLDER / "probes.csv"),
    }


def _write_results(restored: Restored) -> None:
    """The metrics of each run, and the pictures."""
    for run in restored.runs:
        text = json.dumps(run.metrics, indent=2, allow_nan=False)
        (FOLDER / run.name / "metrics.json").write_text(text + "\n", encoding="utf-8")
    for name, shown in {"ladder": restored.combinations, "loss_curves": restored.plain}.items():
        of_runs([_by_folder(c) for c in shown])[name].write(FOLDER / f"{name}.svg")


def _by_folder(combination: Combination) -> Result:
    """Its mean, which pictures call as the tables do."""
    run = combination.averaged
    name = {"checkpoint": combination.name}
    folds = [fold | {"checkpoint": fold["checkpoint"] | name} for fold in run.folds]
    return replace(run, folds=folds)


if __name__ == "__main__":
    main()
