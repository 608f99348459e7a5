"""Exports: plain transformers and PEFT load them, and they say what the run's model says."""

import base64
import functools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import constants
from peft import PeftConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from stages import export, refit
from stages.config.errors import UserError
from stages.config.paths import REFIT
from stages.deployment import merging, reloading
from stages.deployment.card import licence_of
from stages.deployment.pushing import push
from stages.deployment.source import plain_class, read_source
from stages.runs.ensemble import Ensemble
from tests.support.trained import Trained, planted_weights, trained_clone

pytestmark = pytest.mark.rounding


@pytest.fixture(scope="module")
def of(tmp_path_factory, tiny):
    """Give a clone whose refitted model has an objective; made once."""

    @functools.cache
    def make(objective: str) -> Trained:
        trained = trained_clone(tmp_path_factory, tiny, objective=objective)
        with planted_weights(seed=7):
            trained.call(refit.main)
        return trained

    return make


@pytest.fixture(scope="module")
def refitted(of) -> Trained:
    return of("classify")


def texts_of(trained: Trained, count: int = 6) -> list[list[int]]:
    """The tokens of battles, in the file's order of answers, or of each answer."""
    with trained.inside():
        source = read_source(REFIT)
        rounds = source.template.tokenize(trained.battles().head(count))
        return [text for each in rounds for text in source.template.encode(each).texts]


def logits_of(trained: Trained, count: int = 6) -> np.ndarray:
    """What the run's own code says of the same battles, in that order: (battles, classes)."""
    with trained.inside():
        return Ensemble(REFIT).logits(trained.battles().head(count))[0][0][0]


def alone(model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


def near(found: np.ndarray, expected: np.ndarray) -> bool:
    """Weights rounded to bfloat16 move logits by far less than texts differ."""
    return np.abs(found - expected).max() < 0.2 * np.abs(expected - expected.mean(axis=0)).max()


def check_no_path_of_this_machine(folder: Path, trained: Trained) -> None:
    weights = trained.path.parent.parent
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            assert str(weights) not in path.read_text(encoding="utf-8"), path.name


def test_classify_is_merged_into_a_plain_classifier(refitted, tmp_path, capsys):
    to = tmp_path / "merged"
    refitted.call(export.main, "--to", str(to), "--merged")
    assert "Loaded again by transformers alone" in capsys.readouterr().out
    model = AutoModelForSequenceClassification.from_pretrained(to, dtype=torch.float32)
    assert model.config.id2label == {0: "a", 1: "b", 2: "tie"}
    assert json.loads((to / "config.json").read_text())["dtype"] == "bfloat16"
    texts = texts_of(refitted)
    found = torch.stack([alone(model, ids) for ids in texts])
    assert near(found.numpy(), logits_of(refitted))
    padded = AutoTokenizer.from_pretrained(to).pad({"input_ids": texts}, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(model(**padded).logits, found, rtol=1e-3, atol=1e-3)
    card = (to / "README.md").read_text(encoding="utf-8")
    for told in (
        " rows in 2 folds",
        "TF-IDF",
        "not this adapter's own",
        "MD5",
        "held_out",
    ):
        assert told in card
    check_no_path_of_this_machine(to, refitted)


def test_reward_is_merged_into_a_plain_reward_model(of, tmp_path):
    trained, to = of("reward"), tmp_path / "merged"
    trained.call(export.main, "--to", str(to), "--merged")
    model = AutoModelForSequenceClassification.from_pretrained(to, dtype=torch.float32)
    assert model.config.num_labels == 1
    scores = np.array([alone(model, ids).item() for ids in texts_of(trained)]).reshape(-1, 2)
    assert near(scores, logits_of(trained)[:, :2])


def test_sft_is_merged_into_a_plain_language_model(of, tmp_path):
    trained, to = of("sft"), tmp_path / "merged"
    trained.call(export.main, "--to", str(to), "--merged", "original")
    model = AutoModelForCausalLM.from_pretrained(to, dtype=torch.float32)
    with trained.inside():
        answers = list(read_source(REFIT).compute.objective.answers)
    found = torch.stack([alone(model, ids)[-1, answers] for ids in texts_of(trained)])
    assert not near(found.numpy(), logits_of(trained)), "NF4 rounds tiny random weights by far"
    card = (to / "README.md").read_text(encoding="utf-8")
    assert "trained on the base in NF4 and is merged into the original one" in card


@pytest.mark.parametrize("objective", ["classify", "sft", "reward"])
def test_the_adapter_alone_names_its_base_and_not_where_it_lay(
    of, objective, tmp_path, monkeypatch
):
    monkeypatch.setattr(reloading, "FACTOR", 20.0)  # random weights amplify rounding
    trained, to = of(objective), tmp_path / "adapter"
    trained.call(export.main, "--to", str(to), "--license", "apache-2.0")
    assert PeftConfig.from_pretrained(to).base_model_name_or_path == "llama"
    card = (to / "README.md").read_text(encoding="utf-8")
    assert "PeftModel.from_pretrained(base, FOLDER)" in card and "license: apache-2.0" in card
    check_no_path_of_this_machine(to, trained)


# What does not become an export


def test_another_model_than_the_runs_is_an_error_and_leaves_nothing(
    refitted, tmp_path, capsys, monkeypatch
):
    dense = merging._dense
    monkeypatch.setattr(merging, "_dense", lambda layer: dense(layer) * 3)
    with pytest.raises(SystemExit) as ended:
        refitted.call(export.main, "--to", str(tmp_path / "merged"), "--merged")
    assert ended.value.code == 1
    assert "So it is not the same model, and is removed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "models"], "models is there already"),
        (["--to", "out", "--gguf"], "expected --merged with it"),
        (["--to", "out", "--merged", "--gguf"], "clone https://github.com/ggml-org/llama.cpp"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(refitted, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        refitted.call(export.main, *arguments)
    assert ended.value.code == 1
    assert message in capsys.readouterr().err


def test_without_a_refitted_model_it_says_what_makes_one(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["stages.export", "--to", "out"])
    with pytest.raises(SystemExit):
        export.main()
    assert "`python -m stages.refit`" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["ModernBertConfig", "GraniteConfig"])
def test_what_transformers_has_no_class_for_is_refused(kind):
    config = getattr(transformers, kind)()
    with pytest.raises(UserError, match="with classify cannot be exported"):
        plain_class(config, "classify")


def test_gguf_comes_from_llama_cpps_own_converter(refitted, tmp_path, monkeypatch):
    """A stand-in: it is given the merged model, and where to write."""
    converter = tmp_path / "bin/convert_hf_to_gguf.py"
    converter.parent.mkdir()
    converter.write_text('#!/bin/sh\ntest -f "$1/model.safetensors" && echo GGUF > "$3"\n')
    converter.chmod(0o755)
    monkeypatch.setenv("PATH", str(converter.parent), prepend=":")
    to = tmp_path / "merged"
    refitted.call(export.main, "--to", str(to), "--merged", "--gguf")
    assert (to / "model.gguf").read_text() == "GGUF\n"


# Uploaded


class Hub(ThreadingHTTPServer):
    """Takes an upload as the hub does.

    Attributes:
        made: the repositories it was asked to make.
        files: what was committed, by path.
        refuses: whether the account may not write, nor see the repository.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.made: list[dict] = []
        self.files: dict[str, bytes] = {}
        self.refuses = False


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = 404 if self.server.refuses else 200
        self._json({"id": "maker/base", "cardData": {"license": "gemma"}}, status)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        address = f"http://127.0.0.1:{self.server.server_port}/me/model"
        if self.server.refuses:
            self._json({"error": "no write access"}, 403)
        elif self.path == "/api/repos/create":
            self.server.made.append(json.loads(body))
            self._json({"url": address})
        elif self.path == "/api/validate-yaml":
            self._json({"warnings": [], "errors": []})
        elif "/preupload/" in self.path:
            given = json.loads(body)["files"]
            usual = {"uploadMode": "regular", "shouldIgnore": False}
            self._json({"files": [{"path": each["path"], **usual} for each in given]})
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.files[line["value"]["path"]] = content
            self._json({"commitUrl": f"{address}/commit/1", "commitOid": "1", "success": True})

    def _json(self, value: dict, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    yield server
    server.shutdown()


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, content in (("README.md", "# A card\n"), ("adapter_config.json", "{}")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def test_a_folder_is_uploaded_into_a_private_repository(hub, folder):
    assert push(folder, "me/model").endswith("/me/model")
    assert hub.made[0]["name"] == "model" and hub.made[0]["visibility"] == "private"
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_licence_of_a_base_is_what_the_hub_says_if_it_can_be_asked(hub, monkeypatch):
    base = {"checkpoint": "maker/base", "source": "hub", "revision": "0" * 40}
    assert licence_of(base) == "gemma"
    assert licence_of(base | {"source": "package"}) is None
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert licence_of(base) is None


def test_what_the_hub_refuses_says_how_to_upload_it_later(hub, folder):
    hub.refuses = True
    with pytest.raises(UserError, match=r"hf upload me/model"):
        push(folder, "me/model")
    with pytest.raises(UserError, match="expected OWNER/NAME"):
        push(folder, "me/model/of mine")
