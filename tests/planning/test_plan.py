"""The command, as its user runs it: on a file of votes, with tiny checkpoints."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stages import plan
from stages.pages.planning import write_plan
from stages.planning import obstacles
from stages.planning.memory import GIB
from stages.planning.power import fold_effects
from stages.planning.several import several
from stages.planning.words import cases, text
from tests.support import forked
from tests.support.hub import MODEL, Hub, hub_with
from tests.support.places import REPO
from tests.support.raw import kaggle
from tests.support.settings import raw_params

RATES = {"lr": 1e-4, "head_lr": 1e-4}
SMALL = {"rows": None, "max_tokens": 256, "token_budget": 512, "batch_size": 4, "epochs": 1}


@pytest.fixture
def folder(tmp_path, tiny, monkeypatch) -> Path:
    """A repository's folder with 40 votes and tiny backbones, in which commands run."""
    raw = raw_params()
    raw["backbones"]["llama"]["small"] = {
        "folder": str(tiny("llama")),
        "name": "tiny-llama",
    } | RATES
    raw["backbones"]["gemma"]["small"] = {
        "folder": str(tiny("gemma2")),
        "name": "tiny-gemma",
    } | RATES
    raw["scales"]["smoke"] |= SMALL
    raw["data"]["raw"] = "votes.jsonl"
    rows = [json.dumps(kaggle(i, "ab"[i % 2], prompt=f'["{"why " * i}?"]')) for i in range(40)]
    (tmp_path / "votes.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return tmp_path


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Plan with these arguments; the plan, and what was printed."""

    def call(*arguments: str) -> tuple[dict, str]:
        monkeypatch.setattr("sys.argv", ["plan", *arguments])
        plan.main()
        found = json.loads((folder / "metrics/plan.json").read_text(encoding="utf-8"))
        return found, capsys.readouterr().out

    return call


@pytest.fixture
def refused(folder, monkeypatch, capsys):
    """Plan with these arguments, which ends with exit status 1; what was said, and why."""

    def call(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr("sys.argv", ["plan", *arguments])
        with pytest.raises(SystemExit) as ended:
            plan.main()
        assert ended.value.code == 1
        return capsys.readouterr()

    return call


# What it says


def test_two_backbones_on_a_gpu_that_is_elsewhere(run, folder):
    found, printed = run(
        "--device", "h100", "--models", "llama,gemma", "--price", "3", "--seeds", "2"
    )
    assert found["votes"] == {
        "count": 40, "sample": None, "joined": 0, "reserved": 0, "folds": 2, "held_out": 20
    }  # fmt: skip
    assert [each["checkpoint"] for each in found["backbones"]] == ["tiny-llama", "tiny-gemma"]
    for each in found["backbones"]:
        time = each["time"]
        parts = ("start", "training", "held_out")
        assert time["total"] == pytest.approx(sum(time[part] for part in parts))
        assert time["low"] < time["total"] < time["high"]
        assert time["cost"] == pytest.approx(3 * time["total"])
        assert each["memory"]["peak"] < each["memory"]["limit"] < 79.1
        assert each["tokens"]["counted_by"] == each["checkpoint"]
    for words in ("tiny-llama", "tiny-gemma", "All votes are counted", "H100 has 79.1 GiB"):
        assert words in printed
    page = (folder / "metrics/plan.html").read_text(encoding="utf-8")
    assert "tiny-gemma" in page and "Chance that compare finds a difference" in page


def test_the_chances_are_told_once_where_the_fold_effect_is_as_measured(run):
    _, printed = run("--device", "h100")
    few, many = (
        list(cases({"power": {"fold_effects": fold_effects("sft", count)}}).values())
        for count in (40, 57_477)
    )
    assert len(few) == 1 and printed.count(few[0]) == 1
    assert len(many) == 2 and not any(case in printed for case in many)


def test_each_seed_and_fold_takes_its_time(run):
    one, _ = run("--device", "h100")
    two, _ = run("--device", "h100", "--seeds", "2")
    five, _ = run("--device", "h100", "-S", "split.folds=[0,1,2,3,4]")
    hours = [each["backbones"][0]["time"]["training"] for each in (one, two, five)]
    assert hours[1] == pytest.approx(2 * hours[0])
    # Each of five trainings is on 32 votes, and each of two on 20.
    tokens = [each["backbones"][0]["tokens"]["training"] for each in (one, five)]
    assert tokens[1] == pytest.approx(32 / 20 * tokens[0], rel=0.01)
    assert hours[2] / 5 > hours[0] / 2


def test_the_settings_are_those_of_an_experiment(run):
    small, _ = run("--device", "h100", "-S", "train.lora.r=8", "-S", "scales.smoke.epochs=2")
    assert small["epochs"] == 2
    large, _ = run("--device", "h100", "-S", "train.lora.r=32")
    adapters = [each["backbones"][0]["memory"]["adapter"] for each in (small, large)]
    assert adapters[1] == pytest.approx(4 * adapters[0], rel=0.05)


def test_a_few_steps_are_made_where_the_device_is_here(run):
    found, printed = run()
    [backbone] = found["backbones"]
    assert found["device"]["here"] and "measured here by a few steps" in printed
    assert 0 < min(backbone["time"][part] for part in ("training", "held_out")) < 1
    calculated, _ = run("--no-steps")
    assert "calculated" in calculated["backbones"][0]["time"]["how"]


@pytest.mark.parametrize("objective", ["sft", "reward"])
def test_the_steps_are_those_of_the_objective(run, objective):
    found, _ = run("-S", f"train.objective={objective}")
    assert "measured" in found["backbones"][0]["time"]["how"]


def test_the_cheapest_design_is_told_or_that_there_is_none(run):
    _, printed = run("--device", "h100", "--find", "0.01")
    assert printed.count("To find 0.01 in 80% of cases") == 1
    assert printed.count("no design does with 40 votes at most") == 1


def test_several_gpus_take_a_training_each_or_share_each_whatever_ends_sooner(run):
    # A training for each of two folds.
    found, printed = run("--device", "h100", "--gpus", "2")
    apart, together = (found["several"][way] for way in ("side_by_side", "together"))
    assert apart == pytest.approx(found["backbones"][0]["time"]["total"] / 2) and apart < together
    assert "2 such GPUs end all trainings in" in printed and "queue start -j 2`; and in" in printed
    assert run("--device", "h100")[0]["several"] is None


def test_hours_on_several_gpus_by_hand():
    # The longest training first; the two shorter ones fit beside it.
    assert several([(1.0, 1.0), (1.0, 5.0), (1.0, 3.0)], 2).side_by_side == 6.0
    # Three equal ones keep one of two GPUs idle, and to share each is sooner but for its start.
    three = several([(0.0, 9.8)] * 3, 2)
    assert (three.side_by_side, three.together) == pytest.approx((19.6, 15.0))
    assert several([(1.0, 9.8)], 2).together == pytest.approx(1.0 + 5.0)


def test_a_difference_that_no_model_can_have_is_refused(refused):
    _, said = refused("--device", "h100", "--find", "3")
    assert "--find: expected a difference of log loss such as 0.01" in said and "found 3" in said


def test_several_gpus_are_refused_where_the_device_is_none(refused):
    _, said = refused("--gpus", "2", "--no-steps")
    assert "--gpus: expected a device of which there may be several" in said and "h100" in said


def test_another_tokenizer_counts_where_its_own_is_not_here(run):
    found, printed = run("--device", "h100", "--models", "qwen")
    [tokens] = [each["tokens"] for each in found["backbones"]]
    assert tokens["counted_by"] in ("tiny-llama", "tiny-gemma") and tokens["error"] == 0.1
    assert "The tokenizer of Qwen/Qwen2.5-0.5B-Instruct is not here" in printed
    assert "that of Qwen2.5-0.5B is taken, as published" in printed


# What would stop it, or is not known


def test_a_checkpoint_of_which_nothing_is_here_is_not_known(run):
    found, printed = run("--device", "h100", "--models", "granite")
    assert found["backbones"][0]["time"] is None and found["stops"] == []
    assert "how large ibm-granite/granite-4.0-350m is, and whether it can serve " in printed
    assert "it could not be asked" in printed  # the hub: HF_HUB_OFFLINE is 1


def test_too_little_memory_stops_it(refused):
    large = ("-S", "scale=full", "-S", "train.quantization.type=none")
    out, err = refused("--device", "t4", "--models", "gemma", *large)
    assert "Would stop it: google/gemma-2-9b-it: one example of 2048 tokens needs" in out
    assert err.startswith("error: it would not run")


def test_an_objective_that_the_architecture_cannot_serve_stops_it(refused, folder):
    raw = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    encoder = folder / "encoder"
    encoder.mkdir()
    tokens = dict.fromkeys((f"{name}_token_id" for name in ("bos", "eos", "pad", "cls", "sep")), 0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = (
        {"model_type": "modernbert", "vocab_size": 384, "intermediate_size": 64} | sizes | tokens
    )
    (encoder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    raw["backbones"]["modernbert"]["small"] = {"folder": str(encoder)} | RATES
    (folder / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    out, _ = refused("--device", "h100", "--models", "modernbert", "-S", "train.objective=sft")
    assert "set it to classify" in out


def test_a_small_disk_stops_it(refused, monkeypatch):
    monkeypatch.setattr(obstacles.shutil, "disk_usage", lambda path: SmallDisk())
    out, _ = refused("--device", "h100", "--models", "gemma", "-S", "scale=full")
    assert "21 GB of disk are needed and 5 GB are free" in out
    assert "18 for weights that are not here" in out


class SmallDisk:
    free = 5e9


@pytest.fixture
def hub(tiny) -> Iterator[Hub]:
    with hub_with(tiny("llama")) as hub:
        yield hub


def asked(hub: Hub, folder: Path) -> subprocess.CompletedProcess:
    """Plan in a process of its own, for a checkpoint on a hub."""
    raw = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    raw["backbones"]["llama"]["small"] = {"hub": {"id": MODEL, "revision": "main"}} | RATES
    (folder / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {"PYTHONPATH": str(REPO), "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "hf")}
    command = [forked.commands() / "python", "-m", "stages.plan", "--device", "h100"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_a_gated_checkpoint_without_a_token_stops_it(folder, hub):
    hub.gated = 401
    done = asked(hub, folder)
    assert done.returncode == 1
    assert f"Would stop it: {MODEL}: {MODEL} is gated" in done.stdout
    assert "hf auth login" in done.stdout and hub.asked == []


def test_a_checkpoint_that_may_be_read_is_no_obstacle_and_nothing_is_downloaded(folder, hub):
    done = asked(hub, folder)
    assert done.returncode == 0, done.stderr
    assert "could not be asked" not in done.stdout and hub.asked == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "h10"], "did you mean 'h100'"),
        (["--models", "lama"], "did you mean 'llama'"),
        (["-S", "train.lora.rank=3"], "train.lora.rank"),
        (["-S", "data.raw=none.csv"], "none.csv is no file"),
        (["-S", "scales.smoke.max_tokens=64"], "needs at least"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_words(refused, arguments, said):
    _, err = refused(*arguments)
    assert err.startswith("error: ") and said in err


# The page


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_read_on_a_phone(run, folder, browser, theme):
    found, _ = run("--device", "h100", "--models", "llama,gemma", "--find", "0.02")
    found["backbones"][0]["checkpoint"] = "<i>llama</i>" + "x" * 80
    found["stops"] = ["<b>nothing</b> fits"]
    write_plan(found, folder / "page.html")
    context = browser.new_context(color_scheme=theme, viewport={"width": 360, "height": 780})
    tab = context.new_page()
    tab.goto((folder / "page.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    assert tab.evaluate("document.querySelectorAll('main i, main b').length") == 0
    shown = tab.evaluate("document.body.innerText")
    assert "It would not run" in shown and "<b>nothing</b> fits" in shown
    for note in text(found).splitlines():
        if note.startswith("To find"):
            assert note in shown
    drawn = "[...document.querySelectorAll('svg desc')].map(e => e.textContent)"
    assert any("tiny-gemma" in words for words in tab.evaluate(drawn))
    context.close()


@pytest.mark.parametrize(("device", "status"), [("t4", "stops"), ("h100", "unknown")])
def test_flash_attention_4_stops_what_cannot_have_it(run, device, status, capsys):
    wanted = ["-S", "train.attention=flash4", "--device", device]
    told = {"stops": "needs a GPU of the H100's generation", "unknown": "flash-attn-4 is installed"}
    if status == "stops":
        with pytest.raises(SystemExit):
            run(*wanted)
    else:
        run(*wanted)
    plan = json.loads(Path("metrics/plan.json").read_text(encoding="utf-8"))
    assert [told[status] in each for each in plan[status]].count(True) == 1


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (
            ["--device", "a100"],
            "needs a GPU of the H100's generation and bfloat16; the device is A100",
        ),
        (["--device", "h100", "-S", "train.dtype=float16"], "and train.dtype float16"),
        (["--device", "h100", "-S", "train.way=plain"], "llama goes the plain way"),
        (["--device", "h100", "--models", "gemma", "-S", "scale=full"], "attention of gemma2 does"),
    ],
)
def test_fp8_stops_what_cannot_have_it(refused, wanted, told):
    refused("-S", "train.fp8=true", *wanted)
    plan = json.loads(Path("metrics/plan.json").read_text(encoding="utf-8"))
    assert [told in each for each in plan["stops"]].count(True) == 1


def test_fp8_takes_memory_and_saves_time_where_it_can_be_had(run):
    wanted = ["--device", "h100", "--models", "llama", "-S", "scale=full"]
    plans = run(*wanted)[0], run(*wanted, "-S", "train.fp8=true")[0]
    plain, fp8 = (plan["backbones"][0] for plan in plans)
    weights = 6.98e9 * 2 / GIB  # of the layers, two bytes each
    assert fp8["memory"]["peak"] - plain["memory"]["peak"] == pytest.approx(weights, rel=0.01)
    assert fp8["time"]["training"] < plain["time"]["training"]
    assert fp8["time"]["held_out"] == plain["time"]["held_out"]


def test_only_a_json_file_is_written_over(run, folder, capsys):
    before = (folder / "params.yaml").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        run("--output", "params.yaml")
    assert "expected a name that ends in .json, found params.yaml" in capsys.readouterr().err
    assert (folder / "params.yaml").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [("--price", "much", "a number above 0"), ("--seeds", "0", "a number such as 3")],
)
def test_a_wrong_number_is_told(run, capsys, option, value, told):
    with pytest.raises(SystemExit):
        run(option, value)
    assert f"{option}: expected {told}, found {value}" in capsys.readouterr().err
