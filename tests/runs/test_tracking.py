"""Publishing to a real MLflow: a SQLite database, and a server over HTTP."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import ViewType

from stages import publish
from stages.config.errors import UserError
from stages.config.params import load
from stages.live.sending import Sending
from stages.runs import recording, served, store, tracking
from stages.runs.recording import collect
from stages.training.progress import Progress
from tests.support import forked
from tests.support.mlflow_server import Server, free_port
from tests.support.places import REPO
from tests.support.stores import put_store

FOLDS = (0, 1)
MODEL = ("models/weights.json", "data/evaluated/calibration.json", "metrics/split.json")
TRAINING = ("prompt", "train", "scales.smoke", "backbones.llama")
FOREIGN = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "DVC_EXP_NAME")


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    """The working folder, with the outs of a pipeline that has ended."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    write_outs(tmp_path)
    put_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recording, "packages", packages)
    return tmp_path


packages = functools.cache(recording.packages)  # to list them takes a quarter of a second


def write_outs(path: Path, log_loss: float = 1.09) -> None:
    """A small file for each out, in a folder with the repository's own params."""
    for name in (
        "models/fold-9",
        "metrics/folds",
        "metrics/plots",
        "data/predictions",
        "data/evaluated",
    ):
        (path / name).mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPO / name, path)
    for fold in FOLDS:
        write_fold(path, fold)
    by_fold = {f"fold_{fold}": {"log_loss": log_loss, "accuracy": 0.4} for fold in FOLDS}
    metrics = {"log_loss": log_loss, "learned": "no", "folds": by_fold, "train_seconds": 60.0}
    write_json(path / "metrics/metrics.json", metrics)
    for name in MODEL:
        write_json(path / name, {})
    training_loss = pd.DataFrame({"step": [1, 5], "training_loss": [1.0986, 1.08]})
    training_loss.to_csv(path / "metrics/plots/training_loss.csv", index=False)
    rows = pd.DataFrame({"id": ["30192", "53567"], "label": [0, 2]})
    rows.to_parquet(path / "data/evaluated/out_of_fold.parquet")
    write_lock(path)


def write_fold(path: Path, fold: int) -> None:
    adapter = path / f"models/fold-{fold}"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json"):
        (adapter / name).write_text("{}", encoding="utf-8")
    predictions = pd.DataFrame({"id": ["30192", "53567"], "tokens": [9, 8], "ab_a": [0.1, 0.2]})
    predictions.to_parquet(path / f"data/predictions/fold-{fold}.parquet")
    summary = {
        "fold": fold,
        "fingerprint": f"{fold}" * 64,
        "checkpoint": {"checkpoint": "SmolLM2-135M-Instruct.Q4_1", "revision": "b179c952"},
        "device": "cpu, 2 threads",
        "train_seconds": 30.0,
        "gates": [{"name": "first_loss", "passed": True}],
    }
    write_json(path / f"metrics/folds/fold-{fold}.json", summary)
    (path / f"metrics/folds/fold-{fold}.csv").write_text(
        "step,epoch,training_loss,validation_loss,lr,grad_norm\n"
        "1,0.1,1.0986,,0.0002,9.5\n5,0.5,1.08,,0.0001,3.5\n10,1.0,,1.09,,\n",
        encoding="utf-8",
    )


def write_lock(path: Path) -> None:
    raw = yaml.safe_load((path / "params.yaml").read_text(encoding="utf-8"))
    values = {}
    for key in TRAINING:
        section, _, name = key.partition(".")
        values[key] = raw[section][name] if name else raw[section]
    prepare = {
        "deps": [{"path": raw["data"]["raw"], "md5": "0123456789abcdef" * 2}],
        "params": {"params.yaml": {"data": raw["data"]}},
    }
    trained = {f"train@{fold}": {"params": {"params.yaml": values}} for fold in FOLDS}
    (path / "dvc.lock").write_text(yaml.safe_dump({"stages": {"prepare": prepare, **trained}}))


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def set_metrics(path: Path, **values: object) -> None:
    metrics = json.loads((path / "metrics/metrics.json").read_text(encoding="utf-8"))
    write_json(path / "metrics/metrics.json", metrics | values)


def record() -> bool:
    return tracking.record(collect(load()))


def recorded(uri: str | None = None, view: int = ViewType.ACTIVE_ONLY) -> tuple[list, list]:
    """Parent and child runs of the experiment, the children in the folds' order."""
    client = MlflowClient(uri or store.uri())
    experiment = client.get_experiment_by_name(store.EXPERIMENT).experiment_id
    runs = sorted(
        client.search_runs([experiment], run_view_type=view), key=lambda r: r.info.run_name
    )
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return parents, [run for run in runs if run not in parents]


def start_publishing(
    path: Path, module: str = "stages.publish", **environment: str
) -> subprocess.Popen:
    """Publish in a process of its own, as DVC does."""
    return subprocess.Popen(
        [forked.commands() / "python", "-m", module],
        cwd=path,
        env={**os.environ, "PYTHONPATH": str(REPO), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def artifacts(client: MlflowClient, run: str, folder: str | None = None) -> set[str]:
    found = set()
    for file in client.list_artifacts(run, folder):
        found |= artifacts(client, run, file.path) if file.is_dir else {file.path}
    return found


def test_a_run_and_its_folds_are_recorded_whole(workspace):
    assert record()
    (parent,), children = recorded()
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {
        "log_loss": 1.09,
        "train_seconds": 60.0,
        "training_loss": 1.08,
        **{
            f"folds.fold_{k}.{n}": v
            for k in FOLDS
            for n, v in (("log_loss", 1.09), ("accuracy", 0.4))
        },
    }
    assert parent.data.tags["learned"] == "no"
    assert parent.data.tags["checkpoint"] == "SmolLM2-135M-Instruct.Q4_1"
    assert parent.data.params["model"] == "llama" and parent.data.params["train.lora.r"] == "16"
    votes = parent.inputs.dataset_inputs[0].dataset
    assert (votes.name, votes.digest) == ("starter.csv", "0123456789abcdef" * 2)
    assert [child.info.run_name for child in children] == ["fold 0", "fold 1"]
    for fold, child in enumerate(children):
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags["fingerprint"] == f"{fold}" * 64
        assert child.data.metrics["log_loss"] == 1.09


def test_curves_keep_their_steps_and_their_gaps(workspace):
    record()
    _, (child, _) = recorded()
    history = MlflowClient(store.uri()).get_metric_history

    def curve(name: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in history(child.info.run_id, name)]

    assert curve("training_loss") == [(1, 1.0986), (5, 1.08)]
    assert curve("validation_loss") == [(10, 1.09)]
    assert curve("grad_norm") == [(1, 9.5), (5, 3.5)]


def test_artifacts_are_those_of_this_run_and_no_weights_or_texts(workspace):
    record()
    (parent,), (child, _) = recorded()
    client = MlflowClient(store.uri())
    assert artifacts(client, parent.info.run_id) == {
        "params.yaml",
        "dvc.yaml",
        "dvc.lock",
        "environment.txt",
        "metrics/metrics.json",
        "metrics/split.json",
        "plots/training_loss.csv",
        "predictions/out_of_fold.parquet",
    }
    assert artifacts(client, child.info.run_id) == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "adapter/tokenizer.json",
        "metrics/fold-0.json",
        "metrics/fold-0.csv",
        "predictions/fold-0.parquet",
    }
    environment = Path(client.download_artifacts(parent.info.run_id, "environment.txt")).read_text()
    assert "mlflow==3.17.2\n" in environment


def test_the_same_result_is_recorded_once_whatever_it_cost_and_whoever_publishes(
    workspace, monkeypatch
):
    assert record()
    set_metrics(workspace, train_seconds=99.0)
    monkeypatch.setenv("DVC_EXP_NAME", "again")
    assert not record()
    parents, children = recorded()
    assert len(parents) == 1 and len(children) == 2


def test_another_result_is_another_run_with_folds_of_its_own(workspace, monkeypatch):
    record()
    set_metrics(workspace, log_loss=1.05)
    monkeypatch.setenv("DVC_EXP_NAME", "better")
    assert record()
    parents, children = recorded()
    assert {parent.data.metrics["log_loss"] for parent in parents} == {1.09, 1.05}
    assert "llama smoke better" in {parent.info.run_name for parent in parents}
    assert len(children) == 4


def test_what_a_killed_publisher_left_is_done_anew(workspace):
    killed_at_the_second_fold = (
        "import os; from mlflow import MlflowClient; from stages import publish\n"
        "log = MlflowClient.log_artifacts\n"
        "def kill(client, run, path, folder):\n"
        "    if path.endswith('fold-1'): os.kill(os.getpid(), 9)\n"
        "    log(client, run, path, folder)\n"
        "MlflowClient.log_artifacts = kill; publish.main()"
    )
    (workspace / "killed.py").write_text(killed_at_the_second_fold, encoding="utf-8")
    killed = start_publishing(workspace, "killed")
    assert killed.wait(60) == -9
    assert sorted(r.info.status for runs in recorded() for r in runs) == [
        "FINISHED",
        "RUNNING",
        "RUNNING",
    ]
    assert record()
    parents, children = recorded()
    assert [run.info.status for run in parents + children] == ["FINISHED"] * 3
    assert not record()


def test_a_model_that_was_logged_in_part_is_logged_anew(workspace, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_model_artifacts", lambda *_: 1 / 0)
        with pytest.raises(store.Unrecorded):
            record()
    assert record()
    (model,) = logged_models()
    assert model.status == "READY" and model.source_run_id == recorded()[0][0].info.run_id
    assert not record()
    assert len(logged_models()) == 1


def follow(advice: str) -> str:
    """Run the command that a message gives; what it prints."""
    (command,) = re.findall(r"`([^`]*mlflow [^`]*)`", advice)
    path = f"{forked.commands()}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(workspace, monkeypatch):
    record()
    client = MlflowClient(store.uri())
    client.delete_experiment(client.get_experiment_by_name(store.EXPERIMENT).experiment_id)
    with pytest.raises(store.Unrecorded, match="preference-backbones was deleted") as found:
        record()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    assert record()
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert "restored" in follow(str(found.value))
    assert not record()


def test_a_deleted_run_is_recorded_anew_and_can_still_be_read(workspace, tmp_path_factory):
    record()
    ((parent,), children), client = recorded(), MlflowClient(store.uri())
    for run in (parent, *children):
        client.delete_run(run.info.run_id)
    assert record()
    folder = tmp_path_factory.mktemp("read")
    tracking.download(parent.info.run_id, folder)
    assert json.loads((folder / "metrics/metrics.json").read_text())["log_loss"] == 1.09
    assert len(list((folder / "metrics/folds").glob("fold-?.json"))) == len(FOLDS)


def test_a_run_whose_model_was_deleted_is_registered_if_the_advice_is_followed(workspace):
    run = collect(load())
    tracking.record(run)
    MlflowClient(store.uri()).delete_logged_model(logged_models()[0].model_id)
    with pytest.raises(store.Unrecorded, match="has no model any more") as found:
        tracking.register(run.fingerprint, "preference", "champion")
    follow(str(found.value))
    assert tracking.record(run)
    assert int(tracking.register(run.fingerprint, "preference", "champion")) == 1


def test_a_run_that_was_deleted_recorded_anew_and_restored_is_registered(workspace):
    run = collect(load())
    tracking.record(run)
    (parent,), _ = recorded()
    client = MlflowClient(store.uri())
    client.delete_run(parent.info.run_id)
    tracking.record(run)
    client.restore_run(parent.info.run_id)
    assert int(tracking.register(run.fingerprint, "preference", "champion")) == 1


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copy(workspace, tmp_path_factory, monkeypatch) -> Path:
    """A copy of a repository with a recorded run; the working folder."""
    record()
    copy = shutil.copytree(workspace, tmp_path_factory.mktemp("copy") / "a copy")
    monkeypatch.chdir(copy)
    return copy


def test_a_copy_records_in_itself_and_finds_what_the_original_recorded(copy, workspace, capsys):
    original = files_in(workspace)
    set_metrics(copy, log_loss=1.05)
    assert record()
    assert f"artifacts in {workspace}, and now names them in {copy}" in capsys.readouterr().out
    parents, children = recorded()
    assert len(parents) == 2 and len(children) == 4
    for run in parents + children:
        assert run.info.artifact_uri.startswith(f"{copy.as_uri()}/mlartifacts/")
    assert all(m.artifact_location.startswith(f"{copy.as_uri()}/") for m in logged_models())
    assert files_in(workspace) == original
    set_metrics(copy, log_loss=1.06)
    assert record() and not capsys.readouterr().out


def test_a_moved_repositorys_runs_are_read_without_a_change(copy, workspace, tmp_path_factory):
    (parent,), _ = recorded()
    shutil.rmtree(workspace / "mlartifacts")
    before, read = files_in(copy), tmp_path_factory.mktemp("read")
    tracking.download(parent.info.run_id, read)
    found = tracking.download_model(f"runs:/{parent.info.run_id}/model", read / "model")
    assert (read / "metrics/folds/fold-1.csv").exists() and (found / "params.yaml").exists()
    assert files_in(copy) == before


def test_a_database_outside_of_the_repository_stays_as_it_is(
    workspace, tmp_path_factory, monkeypatch
):
    shared = tmp_path_factory.mktemp("shared")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}/team.db")
    record()
    other = shutil.copytree(workspace, shared / "other")
    monkeypatch.chdir(other)
    assert not record()
    assert recorded()[0][0].info.artifact_uri.startswith(workspace.as_uri())


def logged_models() -> list:
    client = MlflowClient(store.uri())
    experiment = client.get_experiment_by_name(store.EXPERIMENT).experiment_id
    return client.search_logged_models([experiment])


def test_what_a_failing_store_left_is_done_anew(workspace):
    (workspace / "mlartifacts").write_text("in the way of a folder", encoding="utf-8")
    with pytest.raises(store.Unrecorded, match="did not take the run"):
        record()
    (workspace / "mlartifacts").unlink()
    assert record()
    parents, children = recorded()
    assert [run.info.status for run in parents + children] == ["FINISHED"] * 3


def sent_while_it_trained(points: list[dict]) -> Sending:
    """Fold 0's run, as it stands before the fold has ended."""
    params = load()
    summary = json.loads(Path("metrics/folds/fold-0.json").read_text(encoding="utf-8"))
    chosen = {"model": params.model, "scale": params.scale, "params": params.resolved()}
    sending = Sending()
    sending.send(Progress(summary | chosen, points, running=True))
    return sending


def test_publishing_goes_on_with_the_run_that_was_opened_while_the_fold_trained(workspace):
    points = [{"step": 1, "time": 1.0, "training_loss": 1.0986, "lr": 0.0002}]
    live = sent_while_it_trained(points).run
    (open_run,), _ = recorded()
    assert open_run.info.status == "RUNNING" and open_run.info.run_name.endswith(", fold 0")
    assert open_run.data.params["train.lora.r"] == "16" and open_run.data.params["fold"] == "0"

    assert record()
    parents, children = recorded()
    assert len(parents) == 1 and [child.info.run_name for child in children] == ["fold 0", "fold 1"]
    child = children[0]
    assert child.info.run_id == live and child.info.status == "FINISHED"
    assert child.data.params == children[1].data.params | {"fold": "0"}
    history = MlflowClient(store.uri()).get_metric_history(live, "training_loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0986), (5, 1.08)]
    assert not record()


def test_a_fold_that_is_recorded_already_gets_no_run_while_it_trains_again(workspace):
    record()
    assert sent_while_it_trained([{"step": 1, "time": 1.0, "training_loss": 1.1}]).run is None
    parents, children = recorded()
    assert len(parents) == 1 and len(children) == 2


def test_tags_tell_the_commit_and_whether_its_code_was_changed(workspace, monkeypatch):
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
        return subprocess.check_output(["git", *who, *arguments], text=True).strip()

    (workspace / "stage.py").write_text("", encoding="utf-8")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "start")
    set_metrics(workspace, log_loss=1.05)  # what DVC writes is no change of code
    monkeypatch.setenv("DVC_EXP_NAME", "clean")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", git("rev-parse", "HEAD"))
    tags = collect(load()).tags
    assert tags["dirty"] == "false" and tags["dvc.exp_name"] == "clean"
    assert tags["mlflow.source.git.commit"] == tags["dvc.baseline_rev"] == git("rev-parse", "HEAD")
    (workspace / "stage.py").write_text("changed", encoding="utf-8")
    assert collect(load()).tags["dirty"] == "true"


@pytest.mark.slow
def test_three_first_users_at_once(tmp_path, workspace):
    root = tmp_path / "root"
    root.mkdir()
    losses = (1.05, 1.05, 1.07)  # the first two are one result
    paths = [tmp_path / f"queue-{i}" for i in range(3)]
    for path, log_loss in zip(paths, losses, strict=True):
        write_outs(path, log_loss)
    started = [start_publishing(path, DVC_ROOT=str(root)) for path in paths]
    printed = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], printed
    assert [errors for _, errors in printed] == ["", "", ""]
    assert sum("recorded the run" in out for out, _ in printed) == 2
    parents, children = recorded(f"sqlite:///{root / 'mlflow.db'}")
    assert len(parents) == 2 and len(children) == 4


@pytest.mark.parametrize("given", [None, "sqlite:///team.db"])
def test_a_throwaway_clone_records_in_the_repository_it_came_from(
    tmp_path, workspace, monkeypatch, given
):
    root = tmp_path / "root"
    root.mkdir()
    (workspace / "mlflow.db").unlink()
    monkeypatch.setenv("DVC_ROOT", str(root))
    if given:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    record()
    assert (root / ("team.db" if given else "mlflow.db")).exists()
    assert list((root / "mlartifacts").iterdir())
    assert not list(workspace.glob("mlartifacts")) and not list(workspace.glob("*.db"))


def test_where_to_look_is_what_works_in_the_root(workspace):
    assert "`mlflow ui --backend-store-uri sqlite:///mlflow.db`" in store.where()


@pytest.fixture
def running(tmp_path) -> Iterator[Server]:
    with Server(tmp_path / "server", free_port()).serving() as server:
        yield server


@pytest.fixture
def server(running) -> str:
    """The URI of a real tracking server."""
    return running.uri


def test_a_tracking_server_takes_the_run_with_its_artifacts(workspace, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setattr(served, "CODE", served.CODE / "runs")  # each file is a request
    assert record()
    assert not record()
    (parent,), (child, _) = recorded()
    assert parent.data.metrics["log_loss"] == 1.09 and child.data.metrics["training_loss"] == 1.08
    assert parent.info.artifact_uri.startswith("mlflow-artifacts:")
    assert "adapter/adapter_model.safetensors" in artifacts(MlflowClient(server), child.info.run_id)
    assert store.where() == f"look at {server}"


@pytest.mark.slow
def test_what_a_server_that_went_away_has_of_a_run_is_done_anew(workspace, running, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    log = MlflowClient.log_artifacts

    def go_away(client: MlflowClient, run: str, path: str, folder: str) -> None:
        if path.endswith("fold-1"):
            running.stop()
        log(client, run, path, folder)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifacts", go_away)
        with pytest.raises(store.Unrecorded, match="did not take the run"):
            record()
    running.start()
    assert record()
    parents, children = recorded()
    assert [run.info.status for run in parents + children] == ["FINISHED"] * 3


class Failing(http.server.BaseHTTPRequestHandler):
    """A server that is there, and answers every request with 503, or never."""

    answers = True

    def handle_one_request(self) -> None:
        if not self.answers:
            return time.sleep(30)
        return super().handle_one_request()

    def do_GET(self) -> None:
        self.send_error(503)

    do_POST = do_GET

    def log_message(self, *_) -> None: ...


@pytest.fixture(params=["refuses", "fails", "hangs"])
def away(request, monkeypatch) -> str:
    """Sets MLFLOW_TRACKING_URI to a server that does not work, with a password in it."""
    port = free_port()
    if request.param != "refuses":
        handler = type("Handler", (Failing,), {"answers": request.param == "fails"})
        failing = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
        failing.daemon_threads, failing.block_on_close = True, False
        threading.Thread(target=failing.serve_forever, daemon=True).start()
        request.addfinalizer(failing.server_close)
        request.addfinalizer(failing.shutdown)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2@127.0.0.1:{port}")
    if request.param == "hangs":
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # the user's setting wins over ours


def test_a_server_that_is_away_costs_seconds_and_no_result(workspace, away, monkeypatch, capsys):
    began = time.monotonic()
    monkeypatch.setattr(sys, "argv", ["publish", "--if-reachable"])
    publish.main()
    warning = capsys.readouterr().err
    assert time.monotonic() - began < 10
    assert warning.startswith("warning: http://***@127.0.0.1")
    assert "python -m stages.publish" in warning and "hunter2" not in warning

    monkeypatch.setattr(sys, "argv", ["publish"])
    with pytest.raises(SystemExit, match="1"):
        publish.main()
    assert capsys.readouterr().err.startswith("error: http://***@127.0.0.1")

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    publish.main()
    assert "recorded the run" in capsys.readouterr().out


def test_an_experiment_is_told_how_to_be_recorded_later(workspace, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("DVC_EXP_NAME", "gemma-tiny")
    monkeypatch.setattr(sys, "argv", ["publish", "--if-reachable"])
    publish.main()
    assert "dvc exp apply gemma-tiny && DVC_EXP_NAME=gemma-tiny" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["metrics/metrics.json", "models/fold-1", "dvc.lock"])
def test_a_pipeline_that_has_not_ended_is_not_recorded(workspace, out):
    path = workspace / out
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=f"{out}.* not found.*dvc repro"):
        collect(load())


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("model: llama", "model: gemma", "backbones.gemma"),
        ("scale: smoke", "scale: sample", "scales.sample"),
        ("r: 16", "r: 64", "train"),
        ("raw: data/raw/starter.csv", "raw: data/raw/train.csv", "data"),
    ],
)
def test_results_are_not_recorded_under_params_edited_since(workspace, old, new, named):
    params = workspace / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=f"found {named} not as in dvc.lock"):
        collect(load())
