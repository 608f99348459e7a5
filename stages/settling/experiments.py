"""The run of each step as an experiment of DVC, made once."""

import shlex
import subprocess
import tempfile
from pathlib import Path

import yaml
from dvc.repo import Repo

from stages.config.errors import UserError
from stages.config.params import Params, validated
from stages.config.paths import PARAMS, PIPELINE
from stages.runs import revisions
from stages.settling.plan import Plan, Step
from stages.tuning.experiment import start
from stages.tuning.overrides import overridden

SOURCES = ("stages", str(PIPELINE), "data")  # in git: what a run is made of, beside its params


def name_of(model: str, step: Step) -> str:
    """What the experiment of a model's run is called."""
    return f"settle-{model}-seed-{step.seed}-folds-{step.folds}"


def train(plan: Plan, model: str, step: Step) -> None:
    """Have DVC make the run of a step, unless it is there; folds that are trained are restored.

    It runs in a folder of its own, so that the workspace stays as it is.

    Raises:
        UserError: the run fails, or an experiment of that name was made otherwise.
    """
    name, given = name_of(model, step), plan.of_step(model, step)
    known = experiments()
    if name in known:
        _require_same(name, known[name], overridden(given)[1])
        print(f"{name} is there", flush=True)
        return
    pairs = [part for each in given for part in ("-S", each)]
    words = ["dvc", "exp", "run", "--temp", "-n", name, *pairs]
    print(f"$ {shlex.join(words)}", flush=True)
    start(words, name, "When you give this command again, it goes on from there")


def experiments() -> dict[str, str]:
    """The commit of each experiment that was made from HEAD, by name."""
    with Repo() as repo:
        return {name: commit for found in repo.experiments.ls().values() for name, commit in found}


def _require_same(name: str, commit: str, params: Params) -> None:
    """Raise a UserError unless an experiment has these params, and this code and these votes."""
    with tempfile.TemporaryDirectory() as folder:
        revisions.get(commit, [PARAMS], Path(folder))
        raw = yaml.safe_load((Path(folder) / PARAMS).read_text(encoding="utf-8"))
    other = ["params"] if validated(raw, f"{PARAMS} of {name}") != params else []
    if subprocess.run(["git", "diff", "--quiet", commit, "--", *SOURCES]).returncode:
        other.append("code or votes")
    if other:
        raise UserError(
            f"the experiment {name} was made with other {' and other '.join(other)} than this "
            f"command would train with: remove it with `dvc exp remove {name}`, or commit the "
            "changes, since each commit has experiments of its own"
        )
