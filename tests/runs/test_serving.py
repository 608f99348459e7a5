"""The model that MLflow keeps of a run: logged, registered, loaded, and served over HTTP."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.models import Model

from stages import predict
from stages.runs.ensemble import Ensemble
from stages.votes.rows import TURNS, WINNERS
from tests.support import forked
from tests.support.trained import FOLDS, Trained, trained_clone

pytestmark = pytest.mark.rounding

NAME = "preference"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny) -> Trained:
    """A clone whose run is recorded, and whose model is registered."""
    trained = trained_clone(tmp_path_factory, tiny)
    trained.publish("--register", f"{NAME}@champion")
    return trained


@pytest.fixture(scope="module")
def store(trained) -> str:
    return f"sqlite:///{trained.path}/mlflow.db"


@pytest.fixture(scope="module")
def client(store) -> MlflowClient:
    return MlflowClient(store, store)


def logged_model(client: MlflowClient) -> LoggedModel:
    """The only one there is."""
    experiments = [found.experiment_id for found in client.search_experiments()]
    (logged,) = client.search_logged_models(experiments)
    return logged


def location(logged: LoggedModel) -> Path:
    return Path(logged.artifact_location.removeprefix("file://"))


class Sample(NamedTuple):
    """Battles as a caller sends them, and what the out-of-fold path's ensemble says of them."""

    frame: pd.DataFrame
    expected: np.ndarray


@pytest.fixture(scope="module")
def sample(trained) -> Sample:
    """Battles of one turn as plain texts, the others as JSON."""
    battles = trained.battles().head(32)[list(TURNS)]
    with trained.inside():
        expected = Ensemble(Path()).predict(battles).final
    return Sample(battles.map(_as_text), expected)


def _as_text(turns: np.ndarray) -> str:
    return turns[0] if len(turns) == 1 else json.dumps(turns.tolist())


@pytest.fixture(scope="module")
def server(trained, store) -> Iterator[str]:
    """The address of a real `mlflow models serve`, started elsewhere than in the clone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["models", "serve", "-m", f"models:/{NAME}@champion"]
    elsewhere = trained.path / "elsewhere"
    elsewhere.mkdir()
    log = (elsewhere / "log").open("w+")
    process = subprocess.Popen(
        [forked.commands() / "mlflow", *command, "--env-manager", "local", "--port", str(port)],
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": store,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PATH": os.pathsep.join([str(forked.commands()), os.environ["PATH"]]),
        },
        cwd=elsewhere,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/ping", process, Path(log.name))
        yield f"{address}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
        log.close()


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if requests.get(address, timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise TimeoutError(log.read_text())


def invoke(server: str, content: object) -> requests.Response:
    return requests.post(server, json=content, timeout=60)


def split(frame: pd.DataFrame) -> dict:
    return {"dataframe_split": frame.to_dict(orient="split", index=False)}


def probabilities(response: requests.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return pd.DataFrame(response.json()["predictions"])[list(WINNERS)].to_numpy()


def records(**changed: object) -> dict:
    """A request with one battle."""
    row = {"prompt": "p", "response_a": "a", "response_b": "b"} | changed
    return {"dataframe_records": [{k: v for k, v in row.items() if v is not ...}]}


# Recorded and registered


def test_the_model_is_recorded_once_with_signature_example_and_pins(trained, client):
    trained.publish("--register", f"{NAME}@champion")
    trained.publish("--register", f"{NAME}@challenger")
    aliases = client.get_registered_model(NAME).aliases
    assert {name: int(version) for name, version in aliases.items()} == {
        "champion": 1,
        "challenger": 1,
    }
    logged = logged_model(client)
    assert client.get_model_version(NAME, "1").source == f"models:/{logged.model_id}"
    assert logged.status == "READY"
    folder = location(logged)
    info = Model.load(str(folder))
    assert set(TURNS) < set(info.signature.inputs.input_names())
    assert info.signature.outputs.input_names() == list(WINNERS)
    assert "torch==" in (folder / "requirements.txt").read_text()
    assert (folder / "input_example.json").exists()


def test_it_holds_adapters_and_code_but_neither_the_base_nor_votes(client):
    folder = location(logged_model(client))
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    outs = {name.removeprefix("artifacts/outs/") for name in files if "outs/" in name}
    assert outs == {
        "params.yaml",
        "models/weights.json",
        "data/evaluated/calibration.json",
        "metrics/split.json",
        *(f"models/fold-{k}/adapter_config.json" for k in FOLDS),
        *(f"models/fold-{k}/adapter_model.safetensors" for k in FOLDS),
    }
    assert "code/stages/runs/ensemble.py" in files


def test_a_name_without_an_alias_is_explained(trained, capsys):
    with pytest.raises(SystemExit):
        trained.publish("--register", "preference")
    assert "expected NAME@ALIAS" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_explained(trained, capsys):
    with pytest.raises(SystemExit):
        files = "--input", "data/raw/starter.csv", "--output", "found.csv"
        trained.call(predict.main, "--model", "models/nosuch", *files)
    told = capsys.readouterr().err
    assert "there is no folder models/nosuch: expected one, or a model in MLflow" in told


# Loaded


def test_mlflow_loads_it_and_it_agrees_with_the_out_of_fold_path(client, sample):
    folder = location(logged_model(client))
    found = mlflow.pyfunc.load_model(str(folder)).predict(sample.frame)
    assert found.columns.tolist() == list(WINNERS)
    assert np.abs(found.to_numpy() - sample.expected).max() < 1e-5


@pytest.mark.parametrize("uri", [f"models:/{NAME}@champion", f"models:/{NAME}/1"])
def test_predict_takes_it_by_uri(trained, sample, tmp_path, uri):
    battles = trained.battles().head(4)
    battles[["id", *TURNS]].to_parquet(tmp_path / "test.parquet")
    given = ["--input", str(tmp_path / "test.parquet"), "--output", str(tmp_path / "s.csv")]
    trained.call(predict.main, *given, "--model", uri)
    found = pd.read_csv(tmp_path / "s.csv")[list(WINNERS)].to_numpy()
    assert np.abs(found - sample.expected[:4]).max() < 1e-5


def test_predict_explains_a_model_that_is_not_there(trained, tmp_path, capsys):
    trained.battles()[["id", *TURNS]].to_parquet(tmp_path / "test.parquet")
    given = ["--input", str(tmp_path / "test.parquet"), "--output", str(tmp_path / "s.csv")]
    with pytest.raises(SystemExit):
        trained.call(predict.main, *given, "--model", "models:/nobody@champion")
    assert "models:/nobody@champion cannot be had" in capsys.readouterr().err


# Served


def test_served_probabilities_agree_with_the_out_of_fold_path(server, sample):
    found = probabilities(invoke(server, split(sample.frame)))
    assert np.abs(found - sample.expected).max() < 1e-5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (records(response_b=...), "response_b"),
        (records(prompt=["p", 7]), "prompt"),
        (records(response_a=None), "response_a"),
        (records(response_a=["a", 7]), "response_a"),
        ({"dataframe_records": "text"}, "must be a list of records"),
        ({"battles": []}, "dataframe_records"),
        ("text", "dictionary"),
    ],
)
def test_bad_input_is_refused_with_what_is_wrong(server, content, message):
    response = invoke(server, content)
    assert 400 <= response.status_code < 500, response.text
    assert message in response.json()["message"]
    assert "Traceback" not in response.json()["message"]


def test_a_body_that_is_no_json_is_refused(server):
    headers = {"Content-Type": "application/json"}
    response = requests.post(server, data="{not json", headers=headers, timeout=60)
    assert 400 <= response.status_code < 500
    assert "JSON" in response.json()["message"]


def test_turns_may_come_as_json_or_as_lists(server):
    turns = {"prompt": ["one", "two"], "response_a": ["a", None], "response_b": ["b", "c"]}
    as_json = {name: json.dumps(value) for name, value in turns.items()}
    plain, encoded = (probabilities(invoke(server, records(**r))) for r in (turns, as_json))
    assert np.abs(plain - encoded).max() < 1e-6
    one = probabilities(invoke(server, records(prompt="one", response_a="a", response_b="b")))
    assert np.abs(one - plain).max() > 1e-3  # the second turn is read


def test_other_layouts_are_served_as_well(server):
    said = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]
    talks = [[said[0], said[1] | {"content": text}] for text in "ab"]
    bodies = [
        records(),
        {"dataframe_records": [dict(zip(("chosen", "rejected"), talks, strict=True))]},
        {"dataframe_records": [{"question": "p", "chosen": "a", "rejected": "b"}]},
        {"dataframe_records": [{"input": "p", "output_1": "a", "output_2": "b"}]},
    ]
    first, *others = (probabilities(invoke(server, body)) for body in bodies)
    assert all(np.abs(first - other).max() < 1e-6 for other in others)
    listed, text = (
        probabilities(invoke(server, records(response_a=answer))) for answer in ('["x"]', "x")
    )
    assert np.abs(listed - text).max() > 1e-6, "an answer to a text is a text"


def test_long_input_is_shortened_not_refused(server):
    found = probabilities(
        invoke(server, records(response_a="a long answer " * 20_000, prompt=["1", "2", "3"]))
    )
    assert found.sum() == pytest.approx(1)


def test_empty_answers_are_answered_by_rule(server):
    a_empty, b_empty = (
        probabilities(invoke(server, records(**{name: " "})))[0] for name in TURNS[1:]
    )
    assert a_empty[1] > b_empty[1] and a_empty[0] < b_empty[0]


def test_32_requests_at_once_each_get_their_own_answer(server, sample):
    singles = [split(sample.frame.iloc[[i]]) for i in range(32)]
    with ThreadPoolExecutor(32) as pool:
        responses = list(pool.map(lambda content: invoke(server, content), singles))
    found = np.concatenate([probabilities(response) for response in responses])
    assert np.abs(found - sample.expected).max() < 1e-5
    assert np.ptp(sample.expected, axis=0).max() > 1e-2  # an exchanged answer would show
