"""Blend finished runs into one: the mean of the log probabilities that they give to each class.

The blend is a folder like a run's, with out-of-fold predictions, metrics, a page and a model. It is
named by its folder: python -m stages.compare blends/NAME HEAD, python -m stages.predict --model
blends/NAME, python -m stages.publish --blend blends/NAME.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from stages.comparison.validity import other_votes, repeated
from stages.config.errors import UserError, stage
from stages.config.paths import BLENDS, REPORT
from stages.pages.page import write_run
from stages.runs import blending, finished
from stages.scoring.baselines import TITLES
from stages.scoring.sentences import blend_printout


@stage
def main() -> None:
    """Write the blend's folder, and print what it gains."""
    options = _arguments()
    blending.check_members(options.runs, options.baselines)
    folder = blending.blend_folder(options.name, options.runs, options.baselines, options.weights)
    for name in options.runs:  # before the first is fetched, which may take a while
        finished.require_known(name)
    BLENDS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=BLENDS) as temporary:
        new = Path(temporary) / folder.name
        copies = blending.copy_runs(options.runs, new)
        results = [result for result, _ in copies]
        problems = other_votes(results) + repeated(results)
        if problems:
            raise UserError("these runs cannot be blended: " + "; ".join(problems))
        blending.copy_models(options.runs, new)
        runs = blending.aligned(copies)
        blended = blending.score(runs, options.baselines, options.weights, folder.name)
        blending.write(new, runs, blended, options.baselines)
        result = finished.read(new, str(folder))
        write_run(result, runs.battles, new / REPORT)
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    confidence = result.params["evaluate"]["confidence"]
    print(blend_printout(blended.metrics, blended.ladder, result.checkpoint, confidence))
    print(f"\n{folder} written; its page is {folder / REPORT}")


def _arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m stages.blend", None, __doc__, formatter_class=raw)
    named = "`workspace`, a DVC experiment, a git revision, an MLflow run's id, or a run's folder"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=named)
    parser.add_argument(
        "--with",
        action="append",
        default=[],
        dest="baselines",
        choices=list(TITLES),
        help="a baseline as a further member; may be repeated",
    )
    told = "fitted: for each fold on the other folds' predictions; default: equal"
    parser.add_argument("--weights", choices=["equal", "fitted"], default="equal", help=told)
    parser.add_argument(
        "--name", help="of the folder in blends/; default: the members' names, and `fitted`"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
