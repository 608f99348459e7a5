"""From finished runs to a blend: their copies, what is scored, and the folder that is written."""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from stages.config.errors import UserError
from stages.config.json_files import write_json
from stages.config.params import Evaluate
from stages.config.paths import BLEND, BLENDS, CALIBRATION, METRICS, OUT_OF_FOLD
from stages.runs import finished
from stages.runs.files import copy_files, is_blend, model_files_in, require
from stages.runs.finished import MLFLOW_RUN, RESULTS, Result, titles
from stages.runs.model_folder import model_folder
from stages.scoring import kept
from stages.scoring.baselines import TITLES
from stages.scoring.blending import Blended, How, Member, evaluate_blend
from stages.scoring.metrics import cost
from stages.scoring.out_of_fold import out_of_fold_table
from stages.votes.prepared import VOTE
from stages.votes.rows import TURNS

LONGEST = 80  # letters of a blend's name
PLACE = ("id", "group", "fold", "source", "language")


@dataclass(frozen=True)
class Runs:
    """Runs to be blended, all of the same votes in the same folds.

    Attributes:
        results: their rows are in one order.
        battles: the votes on these rows, in that order, with the texts of their turns.
    """

    results: Sequence[Result]
    battles: pd.DataFrame


def check_members(runs: Sequence[str], baselines: Sequence[str]) -> None:
    """Raise a UserError unless a blend has two members or more, and each of them once."""
    names = [*runs, *baselines]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"expected each member once, found twice: {', '.join(twice)}")
    if len(names) < 2:
        raise UserError(
            f"expected two runs or more, or one and --with a baseline, found {names[0]}"
        )


def blend_folder(name: str | None, runs: Sequence[str], baselines: Sequence[str], how: How) -> Path:
    """Where a blend is written: below BLENDS, by default under its members' names and `fitted`.

    Raises:
        UserError: the name is none for a folder, or something else lies there.
    """
    short = [run[1][:8] if (run := MLFLOW_RUN.fullmatch(each)) else each for each in runs]
    parts = [*short, *baselines, *(["fitted"] if how == "fitted" else [])]
    default = "-".join(re.sub(r"[^\w.]+", "-", each).strip("-.") for each in parts)
    name = name or default
    if len(name) > LONGEST or not re.fullmatch(r"\w[\w.+-]*", name):
        raise UserError(
            f"--name: expected at most {LONGEST} letters, digits and signs of `_.+-`, found {name}"
        )
    folder = BLENDS / name
    if folder.exists() and not is_blend(folder):
        raise UserError(f"{folder} is there and holds no blend: remove it, or give another --name")
    return folder


# Reading


def copy_runs(names: Sequence[str], folder: Path) -> list[tuple[Result, pd.DataFrame | None]]:
    """Copy the results of runs to folder/runs/0, 1, …; each with its battles, if at hand.

    Raises:
        UserError: there is no run of a name, its files are not to be had, or it is a blend.
    """
    return [_copy(name, folder / _folder(place)) for place, name in enumerate(names)]


def copy_models(names: Sequence[str], folder: Path) -> None:
    """Copy the models of runs beside their results, as copy_runs has left these.

    Raises:
        UserError: the files of one are not to be had.
    """
    for place, name in enumerate(names):
        with _model_of(name) as model:
            files = model_files_in(model)
            require(model, files, "can be blended")
            copy_files(model, files, folder / _folder(place))


def _folder(place: int) -> str:
    return f"runs/{place}"


def _copy(name: str, folder: Path) -> tuple[Result, pd.DataFrame | None]:
    source = finished.folder_of(name)
    folder.mkdir(parents=True)
    if source is None:
        texts = finished.bring(name, folder)
    else:
        result, texts = finished.read(source, name), finished.battles_in(source)
        if not result.members:
            copy_files(source, RESULTS, folder)
    if is_blend(folder) or (source and is_blend(source)):
        raise UserError(f"{name} is itself a blend: name the runs in it")
    return finished.read(folder, name), texts


def _model_of(name: str) -> AbstractContextManager[Path]:
    """A folder with the files of a run's model."""
    source = finished.folder_of(name)
    if source is not None:
        return nullcontext(source)
    if run := MLFLOW_RUN.fullmatch(name):
        return model_folder(None, f"runs:/{run[1]}/model")
    return model_folder(name, None)


def aligned(found: Sequence[tuple[Result, pd.DataFrame | None]]) -> Runs:
    """Bring the rows of runs on the same votes into one order, and find the votes' texts.

    Raises:
        UserError: neither the runs nor the workspace have them.
    """
    first = found[0][0].rows
    results = [
        replace(run, rows=run.rows.set_index("id", drop=False).loc[first.id].reset_index(drop=True))
        for run, _ in found
    ]
    kept_columns = [name for name in (*PLACE, *VOTE) if name in first]
    for texts in (*(texts for _, texts in found), finished.battles_in(Path())):
        if texts is None:
            continue
        battles = first[kept_columns].merge(texts[["id", "label", *TURNS]], on=["id", "label"])
        if len(battles) == len(first):
            return Runs(results, battles)
    raise UserError(
        "the texts of the votes are at hand with none of these runs (MLflow does not keep them): "
        "name one by its DVC experiment or git revision, or run `dvc repro prepare` on its votes"
    )


# Scoring


def score(runs: Runs, baselines: Sequence[str], how: How, name: str) -> Blended:
    """Blend runs and baselines, and score the blend by the first run's `evaluate` and `seed`.

    The baseline to beat is the best of those that the blend was given. Its tokens and its cost are
    those of all runs together.

    Args:
        name: of the blend.
    """
    results, first = runs.results, runs.results[0]
    settings = Evaluate.model_validate(first.params["evaluate"])
    if settings.pool in baselines:  # it is in the blend already
        settings = settings.model_copy(update={"pool": "none"})
    given = {"prior", *baselines, *(run.reference for run in results)}
    known = {name: first.probabilities(name) for name in TITLES}
    members = [
        Member(title, *(run.probabilities(order) for order in ("ab", "ba", "backbone")))
        for title, run in zip(titles(results), results, strict=True)
    ]
    members += [Member(TITLES[name], *3 * [known[name]]) for name in baselines]
    start = min(sorted(given), key=first.metrics["baselines"].__getitem__)
    blended = evaluate_blend(
        runs.battles, members, known, how, start, settings, first.params["seed"]
    )
    summaries = [summary for run in results for summary in run.folds]
    several = {k: v for k, v in first.metrics.items() if k == "several_votes"}
    rest = {"blend": name, **cost(summaries, _tokens(runs)), **several}
    return replace(blended, metrics=blended.metrics | rest)


def _tokens(runs: Runs) -> pd.DataFrame:
    """What all runs read of each battle, and what did not fit."""
    names = ["tokens", "tokens_dropped"]
    return sum((run.rows[names] for run in runs.results[1:]), runs.results[0].rows[names])


# Writing


def write(folder: Path, runs: Runs, blended: Blended, baselines: Sequence[str]) -> None:
    """Write a blend's files beside the copies of its runs; baselines are fitted on all votes."""
    weights = blended.weights.overall.tolist()
    count = len(runs.results)
    content = {
        "name": blended.metrics["blend"],
        "weights": blended.metrics["weights"],
        "runs": [
            {"name": run.name, "folder": _folder(place), "weight": weights[place]}
            for place, run in enumerate(runs.results)
        ],
        "baselines": [
            {"name": name, "file": f"baselines/{name}.json", "weight": weight}
            for name, weight in zip(baselines, weights[count:], strict=True)
        ],
    }
    for each in content["baselines"]:
        kept.keep(each["name"], runs.battles).save(folder / each["file"])
    write_json(folder / CALIBRATION, blended.calibration)
    write_json(folder / METRICS, blended.metrics)
    table = out_of_fold_table(runs.battles, _tokens(runs), blended.probabilities)
    table.to_parquet(folder / OUT_OF_FOLD, index=False)
    write_json(folder / BLEND, content)
