"""Predicting new battles with a run's folds: a submission out of Kaggle's test.csv."""

import contextlib
import csv
import gzip
import io
import json
import signal
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from stages import predict
from stages.config.errors import UserError
from stages.runs import batch
from stages.runs.ensemble import Ensemble
from stages.runs.parts import CODE, fingerprint
from stages.scoring import calibration
from stages.votes.files import read_rows
from stages.votes.labels import LABELS
from stages.votes.rows import TURNS, WINNERS
from tests.support import forked
from tests.support.places import REPO
from tests.support.trained import FOLDS, Trained, trained_clone

pytestmark = pytest.mark.rounding

BAD = {  # a row's fields behind its id, and what its reason says
    "not-json": (["plain text", '["a"]', '["b"]'], "prompt is no JSON or Python list of turns"),
    "no-turns": (["[]", "[]", "[]"], "prompt has no turns"),
    "a-number": (['["p"]', "[1]", '["b"]'], "response_a has a turn that is no text"),
    "short": (['["p"]', '["a"]'], "response_b is no JSON or Python list of turns"),
    "surplus": (['["p"]', '["a"]', '["b"]', "more"], "1 more fields than the header"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny) -> Trained:
    return trained_clone(tmp_path_factory, tiny)


@pytest.fixture(scope="module")
def model(trained) -> Ensemble:
    with trained.inside():
        return Ensemble(Path())


@pytest.fixture
def here(trained) -> Iterator[Trained]:
    """The clone as working folder."""
    with trained.inside():
        yield trained


def rows_of(battles: pd.DataFrame) -> list[list[str]]:
    """Rows of a test.csv."""
    return [
        [id_, *(json.dumps(list(turns)) for turns in texts)]
        for id_, *texts in zip(battles.id, *(battles[name] for name in TURNS), strict=True)
    ]


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", *TURNS], *rows])
    return path


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"id": str}, keep_default_na=False)


def ids(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row[0] for row in csv.reader(file)][1:]


def classes(frame: pd.DataFrame) -> np.ndarray:
    return frame[list(WINNERS)].to_numpy()


# The model


def distance(trained: Trained, model: Ensemble, fold: int, adapter: int) -> float:
    """The largest one between a fold's out-of-fold logits and those of an adapter on its rows."""
    out_of_fold = trained.predictions(fold)
    battles = trained.battles().set_index("id").loc[out_of_fold.id].reset_index()
    logits, dropped = model.logits(battles)
    assert dropped.tolist() == out_of_fold.tokens_dropped.tolist()
    columns = [[f"{order}_{label}" for label in LABELS] for order in ("ab", "ba")]
    expected = np.stack([out_of_fold[names].to_numpy() for names in columns])
    return np.abs(logits[adapter] - expected).max()


def test_a_folds_adapter_on_its_own_rows_gives_the_out_of_fold_logits(trained, model):
    for fold in FOLDS:
        assert distance(trained, model, fold, adapter=fold) < 1e-5
        assert distance(trained, model, fold, adapter=1 - fold) > 1  # folds do differ


@pytest.mark.parametrize(
    ("dtype", "rounding"),
    [("float32", 1e-5), pytest.param("bfloat16", 0.1, marks=pytest.mark.slow)],
)
def test_so_it_does_for_sft_with_an_offset_and_on_a_base_in_half_precision(
    trained, tmp_path, dtype, rounding
):
    other = trained.copied(tmp_path / "other")
    other.set_params(model="gemma", train={"objective": "sft", "dtype": dtype, "offset": True})
    other.train()
    other.dvc("commit", "--force", "train")
    with other.inside():
        model = Ensemble(Path())
    for fold in FOLDS:
        assert distance(other, model, fold, adapter=fold) < rounding
        assert distance(other, model, fold, adapter=1 - fold) > 1
    other.set_params(train={"offset": False})
    with other.inside(), pytest.raises(UserError, match="train@0 ran with, found train not as in"):
        Ensemble(Path())


def test_the_prediction_is_the_calibrated_mean_over_folds_and_orders(trained, model):
    battles = trained.battles()
    logits, _ = model.logits(battles)
    mean = softmax(logits.astype(float), axis=-1).mean(axis=(0, 1))
    fitted = json.loads((trained.path / "data/evaluated/calibration.json").read_text())
    expected = calibration.apply(mean, fitted, calibration.kinds(battles))
    found = model.predict(battles)
    assert np.abs(found.final - expected).max() < 1e-5
    assert np.allclose(found.final.sum(axis=1), 1) and (found.final > 0).all()


def test_exchanged_answers_mirror_what_each_order_says(trained, model):
    battles = trained.battles()
    names = {"response_a": "response_b", "response_b": "response_a"}
    there, back = model.predict(battles), model.predict(battles.rename(columns=names))
    assert np.abs(there.ab - back.ba[:, [1, 0, 2]]).max() < 1e-5
    assert np.abs(there.ab - there.ba).max() > 1e-2  # the orders do differ


# The command


@pytest.fixture(scope="module")
def test_csv(trained) -> Path:
    """A file of several parts, with rows that cannot be read among others."""
    good = rows_of(trained.battles())
    rows = [[f"{n}-{id_}", *texts] for n in range(8) for id_, *texts in good]
    for place, (id_, (fields, _)) in zip((0, 70, 71, 200, 260), BAD.items(), strict=True):
        rows.insert(place, [id_, *fields])
    rows.insert(300, ["", *good[0][1:]])
    return write_csv(trained.path / "test.csv", rows)


@pytest.fixture(scope="module")
def submission(trained, test_csv) -> Path:
    """Of a prediction that was killed, and started again: its first part had been changed by hand,
    which shows that it was not predicted again."""
    command = ["-m", "stages.predict", "--input", test_csv.name, "--output", "out/submission.csv"]
    with subprocess.Popen(
        [forked.commands() / "python", *command], cwd=trained.path, stderr=subprocess.DEVNULL
    ) as killed:
        first, second = (f"out/submission.parts/*/rows-{n:09}.parquet" for n in (1, 65))
        while not list(trained.path.glob(second)):
            assert killed.poll() is None
            time.sleep(0.002)
        killed.send_signal(signal.SIGKILL)
    assert not (trained.path / "out").exists() or not list(trained.path.glob("out/*.csv"))
    (kept,) = trained.path.glob(first)
    part = pd.read_parquet(kept)
    part.loc[1, list(WINNERS)] = [0.5, 0.25, 0.25]
    part.to_parquet(kept)
    said = io.StringIO()
    aside = contextlib.redirect_stdout(said), contextlib.redirect_stderr(said)
    with aside[0], aside[1], pytest.raises(SystemExit) as ended:
        trained.call(predict.main, *command[2:])
    assert ended.value.code == 1, "more rows are unreadable than data.max_quarantined allows"
    trained.output = said.getvalue()
    return trained.path / "out/submission.csv"


def test_every_row_is_predicted_in_the_files_order(test_csv, submission, trained, model):
    given, found = ids(test_csv), read(submission)
    assert found.columns.tolist() == ["id", *WINNERS]
    assert found.id.tolist() == given
    assert np.allclose(classes(found).sum(axis=1), 1)
    expected = dict(zip(trained.battles().id, model.predict(trained.battles()).final, strict=True))
    good = [i for i, id_ in enumerate(found.id) if id_ not in BAD and id_ and i != 1]
    alike = np.array([expected[found.id[i].split("-", 1)[1]] for i in good])
    assert np.abs(classes(found)[good] - alike).max() < 1e-5


def test_rows_that_cannot_be_read_get_the_prior_and_are_listed(test_csv, submission, trained):
    given, found = ids(test_csv), read(submission)
    listed = read(submission.with_suffix(".unreadable.csv"))
    shares = json.loads((trained.path / "metrics/split.json").read_text())["share"]
    prior = [shares[label] for label in LABELS]
    assert listed.id.tolist() == [*BAD, ""]
    for row, id_, reason in listed.itertuples(index=False):
        assert given[row - 1] == id_
        assert classes(found)[row - 1] == pytest.approx(prior)
        assert (BAD[id_][1] if id_ else "id is missing") in reason
    assert f"{len(given)} rows predicted" in trained.output
    *_, last = trained.output.splitlines()
    assert "6 of them could not be read" in last and last.endswith("allows 1.00% of the rows")


def test_a_killed_prediction_goes_on_where_it_was(submission, trained):
    assert classes(read(submission))[1].tolist() == [0.5, 0.25, 0.25]
    assert not submission.with_suffix(".parts").exists()


def test_the_parquet_twin_holds_the_same(submission):
    twin = pd.read_parquet(submission.with_suffix(".parquet"))
    assert twin.id.tolist() == read(submission).id.tolist()
    assert np.abs(classes(twin) - classes(read(submission))).max() < 1e-12


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet", "/shard-0.parquet"])
def test_every_format_gives_the_same(here, model, tmp_path, ending, monkeypatch):
    battles = here.battles().head(5)
    path = tmp_path / f"test{ending}"
    path.parent.mkdir(exist_ok=True)
    if ending.endswith(".parquet"):
        battles[["id", *TURNS]].to_parquet(path)
    else:
        write_csv(path, rows_of(battles))
    path = path.parent if path.parent != tmp_path else path
    monkeypatch.setattr(batch, "load_model", lambda *given: model)
    here.call(predict.main, "--input", str(path), "--output", str(tmp_path / "s.csv"))
    assert np.abs(classes(read(tmp_path / "s.csv")) - model.predict(battles).final).max() < 1e-5


def test_plain_texts_without_ids_are_read_from_another_layout(here, model, tmp_path, monkeypatch):
    battles = here.battles().head(4)
    single = battles.assign(**{name: [[turns[-1]] for turns in battles[name]] for name in TURNS})
    rows = [
        {"instruction": p[0], "input": "", "response1": a[0], "response2": b[0]}
        for p, a, b in zip(*(single[name] for name in TURNS), strict=True)
    ]
    path = tmp_path / "test.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    monkeypatch.setattr(batch, "load_model", lambda *given: model)
    here.call(predict.main, "--input", str(path), "--output", str(tmp_path / "s.csv"))
    found = read(tmp_path / "s.csv")
    assert found.id.tolist() == ["1", "2", "3", "4"]
    assert np.abs(classes(found) - model.predict(single).final).max() < 1e-5


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, ending):
    path, rows = tmp_path / f"test{ending}", 5_000
    texts = {name: [json.dumps([f"{i} " * 1_000]) for i in range(rows)] for name in TURNS}
    frame = pd.DataFrame({"id": range(rows), **texts})
    if ending == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, row_group_size=500, compression=None)
    size = sum(map(len, texts["prompt"])) * 3
    tracemalloc.start()
    assert sum(1 for _ in read_rows(path)) == rows
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 8


def test_an_experiment_predicts_from_dvcs_cache_whatever_the_workspace_holds(here, model, tmp_path):
    battles = here.battles().head(5)
    path = write_csv(tmp_path / "test.csv", rows_of(battles))
    arguments = ["--input", str(path), "--output", str(tmp_path / "s.csv")]
    (here.path / "models").rename(here.path / "elsewhere")
    try:
        with pytest.raises(SystemExit):
            here.call(predict.main, *arguments)
        here.call(predict.main, *arguments, "--experiment", "main")
    finally:
        (here.path / "elsewhere").rename(here.path / "models")
    assert np.abs(classes(read(tmp_path / "s.csv")) - model.predict(battles).final).max() < 1e-5


def test_parts_are_kept_for_one_input_and_one_model_only(here, tmp_path):
    path = write_csv(tmp_path / "test.csv", rows_of(here.battles().head(2)))
    before = fingerprint(path, Path())
    assert fingerprint(path, Path()) == before
    assert CODE == REPO / "stages", "all code that predicting may run"
    seen = {before}
    for name in ("models/fold-1/adapter_model.safetensors", "data/evaluated/calibration.json"):
        content = Path(name).read_bytes()
        Path(name).unlink()  # a link into DVC's cache, maybe
        Path(name).write_bytes(content + b" ")
        seen.add(fingerprint(path, Path()))
        Path(name).write_bytes(content)
    write_csv(path, rows_of(here.battles().head(3)))
    seen.add(fingerprint(path, Path()))
    assert len(seen) == 4


# What its user got wrong


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, [], "is no file: expected a file"),
        ("", [], "holds no rows: nothing to predict"),
        ("id,prompt,response_a\n1,2,3\n", [], "no known layout"),
        ("id,prompt,response_a,response_b\n", [], "holds no rows: nothing to predict"),
        ("id,prompt,response_a,response_b\n1,2,3,4\n", ["--experiment", "nobody"], "nobody"),
        ("id,prompt,response_a,response_b\n1,2,3,4\n", ["--output", "s.txt"], "a .csv file"),
        ("id,prompt,response_a,response_b\n1,2,3,4\n", ["--output", "in.csv"], "overwrite"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(here, capsys, monkeypatch, content, arguments, message):
    given = here.path / "in.csv"
    given.unlink(missing_ok=True)
    if content is not None:
        given.write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        here.call(predict.main, "--input", "in.csv", "--output", "s.csv", *arguments)
    assert ended.value.code == 1
    assert message in capsys.readouterr().err


def test_a_file_that_is_cut_short_is_named_with_its_last_row(here, capsys):
    texts = [np.random.default_rng(i).bytes(500).hex() for i in range(100)]  # hard to pack
    rows = [[text[:9], *[json.dumps([text])] * 3] for text in texts]
    whole = write_csv(here.path / "whole.csv.gz", rows).read_bytes()
    (here.path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit):
        here.call(predict.main, "--input", "cut.csv.gz", "--output", "cut.csv")
    error = capsys.readouterr().err
    assert "cut.csv.gz cannot be read behind row" in error
    assert not Path("cut.csv").exists()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("model: llama", "model: gemma", "backbones.gemma"),
        ("counts: false", "counts: true", "prompt"),
        ("offset: false", "offset: true", "train"),
    ],
)
def test_adapters_of_other_params_are_refused(here, capsys, old, new, named):
    path = Path("params.yaml")
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace(old, new), encoding="utf-8")
    write_csv(Path("two.csv"), rows_of(here.battles().head(2)))
    try:
        with pytest.raises(SystemExit):
            here.call(predict.main, "--input", "two.csv", "--output", "s.csv")
    finally:
        path.write_text(before, encoding="utf-8")
    assert f"train@0 ran with, found {named} not as in dvc.lock" in capsys.readouterr().err
