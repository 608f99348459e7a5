"""A blend of finished runs: what is written, and that everything that takes a run takes it."""

import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from stages import blend, compare, evaluate, predict, publish
from stages.config.paths import BLENDS, REPORT
from stages.runs import finished, store
from stages.runs.blended import Blend, load_model
from stages.runs.ensemble import Ensemble
from stages.runs.model_folder import model_folder
from stages.scoring import calibration, kept, scores
from stages.scoring.blending import fit_weights
from stages.scoring.learning import mean_of_logs
from stages.votes.rows import TURNS, WINNERS
from tests.support.runs import write_run
from tests.support.trained import FOLDS, Trained, trained_clone

pytestmark = pytest.mark.rounding

EQUAL, FITTED = "blends/llama-gemma-counts", "blends/llama-workspace-tfidf_counts-fitted"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny) -> Trained:
    """A clone with the runs llama and gemma, the latter in its workspace, and two blends."""
    trained = trained_clone(tmp_path_factory, tiny)
    trained.git("tag", "llama")
    trained.set_params(model="gemma")
    trained.train()
    trained.call(evaluate.main)
    trained.dvc("commit", "--force", "train", "evaluate")
    trained.commit("gemma")
    trained.git("tag", "gemma")
    trained.call(blend.main, "llama", "gemma", "--with", "counts")
    fitted = ("--with", "tfidf_counts", "--weights", "fitted")
    trained.call(blend.main, "llama", "workspace", *fitted)
    return trained


@pytest.fixture
def here(trained) -> Iterator[Trained]:
    """The clone as working folder."""
    with trained.inside():
        yield trained


def refused(clone: Trained, main, *arguments: str, capsys: pytest.CaptureFixture) -> str:
    """What a command says that ends with an error."""
    with pytest.raises(SystemExit) as ended:
        clone.call(main, *arguments)
    assert ended.value.code == 1
    return capsys.readouterr().err


# What is written


@pytest.mark.parametrize(("folder", "baseline"), [(EQUAL, "counts"), (FITTED, "tfidf_counts")])
def test_out_of_fold_it_is_the_mean_of_the_members_logs(here, folder, baseline):
    result = finished.read(Path(folder), folder)
    members = [run.rows.set_index("id").loc[result.rows.id] for run in result.members]
    names = [f"backbone_{label}" for label in ("a", "b", "tie")]
    guesses = [rows[names].to_numpy() for rows in members]
    guesses.append(result.probabilities(baseline))
    folds, found = result.rows.fold.to_numpy(), result.probabilities("backbone")
    for fold in FOLDS:
        rows, others = folds == fold, folds != fold
        weights = np.full(3, 1 / 3)
        if folder == FITTED:
            weights = fit_weights([guess[others] for guess in guesses], result.votes[others])
        expected = mean_of_logs([guess[rows] for guess in guesses], weights)
        assert found[rows] == pytest.approx(expected)
    assert result.metrics["log_loss"] == pytest.approx(scores.log_loss(result.votes, found))
    assert set(result.members[1].rows) - set(result.rows) <= {
        f"pooled_{label}" for label in ("a", "b", "tie")
    }


def test_its_metrics_are_those_of_a_run_and_what_it_gains_over_its_best_member(here):
    result = finished.fetch(EQUAL)[0]
    metrics, run = result.metrics, result.members[1].metrics
    assert set(run) - set(metrics) == {"pooled"}, "counts are in it already"
    known = {name: result.baselines[name]["log_loss"] for name in ("prior", "counts")}
    assert metrics["reference"] == min(known, key=known.get), "they alone are no learning"
    assert [m["title"] for m in metrics["members"]] == ["llama", "gemma3", "length and format"]
    losses = {member["title"]: member["log_loss"] for member in metrics["members"]}
    assert losses["gemma3"] == pytest.approx(run["log_loss"])
    assert metrics["best_member"] == min(losses, key=losses.get)
    gain = min(losses.values()) - metrics["log_loss"]
    assert metrics["gain_over_best_member"] == pytest.approx(gain)
    assert metrics["gain_over_best_member_low"] < gain < metrics["gain_over_best_member_high"]
    assert "pooled" in finished.fetch(FITTED)[0].metrics
    both = [member.metrics["tokens_seen"] for member in result.members]
    assert metrics["tokens_seen"] == sum(both)


def test_its_page_has_the_members_and_no_curves(here):
    for folder, heads in ((EQUAL, ["weight"]), (FITTED, ["weight", "fold 0", "fold 1"])):
        page = (here.path / folder / REPORT).read_text(encoding="utf-8")
        table = page[page.index('id="members"') :]
        table = table[: table.index("</table>")]
        assert table.count("<tr>") == 4
        for head in ["member", "log loss", *heads]:
            assert f'<th scope="col">{head}</th>' in table
        assert 'id="curves"' not in page and "#curves" not in page
        assert 'id="gates"' in page and "params.yaml of llama" in page


# Everything that takes a run takes it


@pytest.fixture(scope="module")
def models(trained) -> dict[str, Ensemble | Blend]:
    with trained.inside():
        found = {folder: load_model(Path(folder)) for folder in (EQUAL, FITTED)}
        with model_folder("llama", None) as folder:
            found["llama"] = Ensemble(folder)
        return found | {"gemma": Ensemble(Path())}


@pytest.mark.parametrize(("folder", "baseline"), [(EQUAL, "counts"), (FITTED, "tfidf_counts")])
def test_its_model_is_the_mean_of_the_members_logs(here, models, folder, baseline):
    battles = here.battles()
    content = json.loads((Path(folder) / "blend.json").read_text())
    weights = [each["weight"] for each in content["runs"] + content["baselines"]]
    members = [models[name].predict(battles) for name in ("llama", "gemma")]
    counted = kept.keep(baseline, battles).predict(battles)
    found = models[folder].predict(battles)
    for name in ("ab", "ba", "averaged"):
        logs = [np.log(p) for p in (*(getattr(each, name) for each in members), counted)]
        mean = np.exp(np.average(logs, axis=0, weights=weights))
        expected = mean / mean.sum(axis=1, keepdims=True)
        assert getattr(found, name) == pytest.approx(expected, abs=1e-5)
    fitted = json.loads((Path(folder) / "data/evaluated/calibration.json").read_text())
    final = calibration.apply(found.averaged, fitted, calibration.kinds(battles))
    assert found.final == pytest.approx(final)


def test_predict_takes_its_folder(here, models, tmp_path):
    battles = here.battles().head(5)
    battles[["id", *TURNS]].to_parquet(tmp_path / "test.parquet")
    arguments = ("--input", str(tmp_path / "test.parquet"), "--output", str(tmp_path / "s.csv"))
    here.call(predict.main, *arguments, "--model", EQUAL)
    found = pd.read_csv(tmp_path / "s.csv")[list(WINNERS)].to_numpy()
    assert found == pytest.approx(models[EQUAL].predict(battles).final, abs=1e-5)


def test_compare_takes_its_folder(here, capsys, tmp_path):
    output = tmp_path / "comparison.json"
    here.call(compare.main, EQUAL, "workspace", "--output", str(output))
    comparison = json.loads(output.read_text())
    assert [run["title"] for run in comparison["runs"]] == ["blend llama-gemma-counts", "gemma3"]
    assert not [reason for reason in comparison["reasons"] if "differ" in reason]
    assert (
        f"{EQUAL} is a blend of 2 runs, and costs what they cost together"
        in (comparison["warnings"])
    )
    assert len(comparison["pairs"]) == 1
    assert "blend llama-gemma-counts" in output.with_suffix(".html").read_text(encoding="utf-8")
    told = refused(here, compare.main, "blends/none", "HEAD", capsys=capsys)
    assert "blends/none is no blend" in told and f"the blends are {EQUAL}, {FITTED}" in told
    told = refused(here, compare.main, "stages", "HEAD", capsys=capsys)
    assert "stages is a folder, no git revision and no DVC experiment" in told


def test_it_is_published_once_and_comes_back_from_mlflow(here, models, capsys, monkeypatch):
    for told in ("MLflow recorded the run", "MLflow has this run already"):
        here.publish("--blend", EQUAL, "--register", "blended@best")
        assert told in capsys.readouterr().out
    client = MlflowClient(store.uri(), store.uri())
    (run,) = client.search_runs(
        [client.get_experiment_by_name(store.EXPERIMENT).experiment_id],
        "tags.`dvc.stage` = 'blend'",
    )
    expected = finished.fetch(EQUAL)[0]
    assert run.data.metrics["log_loss"] == pytest.approx(expected.metrics["log_loss"])
    assert run.data.params["member.2"] == "counts"
    found = finished.fetch(run.info.run_id)[0]
    assert found.checkpoint == expected.checkpoint and len(found.members) == 2
    pd.testing.assert_frame_equal(found.rows, expected.rows)
    place = Path(run.info.artifact_uri.removeprefix("file://"))
    assert not list(place.rglob("*.html")) and list(place.rglob("blend.json"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri())
    served = mlflow.pyfunc.load_model("models:/blended@best")
    battles = here.battles()
    single = battles[[len(turns) == 1 for turns in battles.prompt]].head(4)
    frame = single[list(TURNS)].map(lambda turns: turns[0])
    probabilities = served.predict(frame)[list(WINNERS)].to_numpy()
    assert probabilities == pytest.approx(models[EQUAL].predict(single).final, abs=1e-5)
    told = refused(here, blend.main, run.info.run_id, "llama", capsys=capsys)
    assert f"{run.info.run_id} is itself a blend: name the runs in it" in told
    told = refused(here, publish.main, "--blend", "data", capsys=capsys)
    assert "data is no blend" in told


@pytest.mark.slow
def test_a_run_in_mlflow_may_be_a_member(here, models):
    here.publish()
    client = MlflowClient(store.uri())
    (run,) = client.search_runs(
        [client.get_experiment_by_name(store.EXPERIMENT).experiment_id],
        "tags.`dvc.stage` = 'publish'",
    )
    here.call(blend.main, run.info.run_id, "llama", "--name", "tracked")
    content = json.loads((BLENDS / "tracked/blend.json").read_text())
    assert content["runs"][0] == {"name": run.info.run_id, "folder": "runs/0", "weight": 0.5}
    battles = here.battles().head(6)
    members = [models[name].predict(battles).averaged for name in ("gemma", "llama")]
    found = load_model(BLENDS / "tracked").predict(battles).averaged
    assert found == pytest.approx(mean_of_logs(members), abs=1e-5)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["llama"], "expected two runs or more, or one and --with a baseline, found llama"),
        (["llama", "gemma", "llama"], "expected each member once, found twice: llama"),
        (["llama", "--with", "counts", "--with", "counts"], "found twice: counts"),
        (["gemma", "HEAD"], "gemma and HEAD are the same run, with the same training seed"),
        (["llama", EQUAL], f"{EQUAL} is itself a blend: name the runs in it"),
        (["llama", "gema"], "gema is neither a git revision nor a DVC experiment"),
        (["llama", "gemma", "--name", "a/b"], "--name: expected at most 80 letters"),
        (["llama", "gemma", "--name", "mine"], "blends/mine is there and holds no blend"),
    ],
)
def test_what_cannot_be_blended_is_told(here, capsys, arguments, message):
    (BLENDS / "mine").mkdir(exist_ok=True)
    before = sorted(BLENDS.iterdir())
    assert message in refused(here, blend.main, *arguments, capsys=capsys)
    assert sorted(BLENDS.iterdir()) == before, "nothing is left behind"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": 120}, "rows differ: 240 in {a}; 120 in {b}"),
        ({"folds": 4}, "the folds evaluated differ: 3 in {a}; 4 in {b}"),
        ({"classes": 2}, "the classes differ: a and b and tie in {a}; a and b in {b}"),
    ],
)
def test_runs_on_other_votes_are_not_blended(tmp_path, monkeypatch, capsys, settings, message):
    a, b = (
        str(write_run(tmp_path / n, seed=s, **o)) for n, s, o in (("a", 0, {}), ("b", 1, settings))
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["blend", a, b, "--name", "ab"])
    with pytest.raises(SystemExit):
        blend.main()
    told = capsys.readouterr().err
    assert "these runs cannot be blended: " in told and message.format(a=a, b=b) in told


def test_runs_trained_otherwise_and_seeds_of_one_backbone_are_blended(tmp_path):
    from stages.comparison.validity import other_votes, repeated, unlike

    settings = ({}, {"seed": 1}, {"seed": 2, "scale": "sample"})
    runs = [write_run(tmp_path / str(i), **each) for i, each in enumerate(settings)]
    results = [finished.read(run, run.name) for run in runs]
    results[1].params["train"]["seed"] = 2
    assert unlike(results) and not other_votes(results) and not repeated(results)
