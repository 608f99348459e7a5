"""Stage `publish`: record the run in MLflow from DVC's outs, once, however often it is called.

One parent run a pipeline run, one child a fold. A result that DVC restored from its cache is found
again under its fingerprint, and one whose tracking server was away is recorded later by hand.
"""

import argparse
import os
import re
import sys
from pathlib import Path

from stages.config.errors import UserError, stage
from stages.config.params import load
from stages.runs import store, tracking
from stages.runs.recording import collect
from stages.runs.recording_blends import collect_blend


@stage
def main() -> None:
    """Record the run; a store that is away is an error unless the option says otherwise."""
    parser = argparse.ArgumentParser(prog="python -m stages.publish", description=__doc__)
    parser.add_argument(
        "--if-reachable", action="store_true", help="only warn if the tracking store is away"
    )
    parser.add_argument(
        "--register",
        type=_named,
        metavar="NAME@ALIAS",
        help="register the run's model, and let the alias point to it",
    )
    parser.add_argument("--blend", type=Path, metavar="FOLDER", help="record a blend instead")
    options = parser.parse_args()
    recording = collect_blend(options.blend) if options.blend else collect(load())
    try:
        new = tracking.record(recording)
    except store.Unrecorded as error:
        message = (
            f"{error}\nThe results are kept. Record them later with\n  {_later(options.blend)}"
        )
        if not options.if_reachable:
            raise UserError(message) from None
        print(f"warning: {message}", file=sys.stderr)
        return
    done = "recorded the run" if new else "has this run already"
    folds = "" if options.blend else f", with {len(recording.children)} folds"
    print(f"MLflow {done}{folds}: {store.where()}")
    if options.register:
        _register(recording.fingerprint, options.register)


def _named(text: str) -> str:
    if not re.fullmatch(r"[^@/:]+@[^@/:]+", text):
        raise argparse.ArgumentTypeError(f"expected NAME@ALIAS, found {text!r}")
    return text


def _later(blend: Path | None) -> str:
    """How to record a run or a blend that the store did not take."""
    if blend:
        return f"python -m stages.publish --blend {blend}"
    name = os.environ.get("DVC_EXP_NAME")
    command = "python -m stages.publish"
    return f"dvc exp apply {name} && DVC_EXP_NAME={name} {command}" if name else command


def _register(fingerprint: str, named: str) -> None:
    """Register the run's model as NAME@ALIAS says."""
    name, _, alias = named.partition("@")
    try:
        version = tracking.register(fingerprint, name, alias)
    except store.Unrecorded as error:
        raise UserError(str(error)) from None
    print(f"models:/{named} is version {version}, the model of this run")


if __name__ == "__main__":
    main()
