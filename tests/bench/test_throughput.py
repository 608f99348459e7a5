"""The throughput bench on tiny backbones: what it measures, counts, and refuses."""

import json
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM

from bench.throughput import agreement, kernels, lengths, published
from bench.throughput.__main__ import FLOPS, main, override, prepare, require_agreement
from bench.throughput.measure import Bench, load_paths, reference, twin
from bench.throughput.stock import padded_share
from stages.config.errors import UserError
from stages.model.attention import segments
from stages.planning.random_weights import linear_parameters, random_base
from tests.support import forked
from tests.support.absent import without
from tests.support.places import REPO

DTYPES = ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)]
CPU = torch.device("cpu")
SHORT = ["--max-tokens", "64", "--steps", "2", "--rounds", "2"]
ELSEWHERE = without("dvc", "mlflow", "git")
ELSEWHERE += 'import runpy; runpy.run_module("bench.throughput", run_name="__main__")'


def bench(backbone: str = "llama", **options: object) -> Bench:
    given = {"size": "tiny", "max_tokens": 64, "memory": None, "only": None, "set": []}
    given |= {"steps": 1, "rounds": 1, "profile": False, "backbone": backbone}
    return prepare(Namespace(**given | options))


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def command(monkeypatch, *options: object) -> None:
    monkeypatch.setattr(sys, "argv", ["", "--random-weights", *map(str, options)])
    main()


@pytest.mark.slow
def test_the_command_runs_without_dvc_mlflow_and_git(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    exact = ["-S", "train.dtype=float32"]  # whatever this processor would have
    options = ["--backbone", "llama", "--size", "tiny", "--random-weights", *exact, *SHORT]
    command = [forked.commands() / "python", "-c", ELSEWHERE, *options]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "real tokens/s" in done.stdout and "the same, at a limit of 0.0001" in done.stdout


@pytest.mark.parametrize("backbone", ["llama", pytest.param("gemma", marks=pytest.mark.slow)])
def test_both_paths_are_measured_and_compared(backbone, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.json"
    options = ["--backbone", backbone, "--size", "tiny", "--profile", "--out", out]
    command(monkeypatch, *options, *SHORT)
    assert "matrix products" in capsys.readouterr().out

    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["interleaved"] and result["agreement"]["same"]
    assert result["budget"]["max_tokens"] == result["longest"] == 64
    assert result["paths"]["stock"]["attention"] == ("eager" if backbone == "gemma" else "sdpa")
    for phase in ("training", "inference"):
        assert result["ratio"][phase] > 0
        for path in ("stock", "project"):
            found = result["paths"][path][phase]
            assert len(found["rounds"]) == 2
            per_token = FLOPS[phase] * result["linear_parameters"]
            assert found["tflops"] == pytest.approx(found["tokens_per_second"] * per_token / 1e12)
            share = found["tflops"] / result["matmul_tflops"]
            assert found["share_of_peak"] == pytest.approx(share)
            assert sum(found["profile"]["groups"].values()) == pytest.approx(1)


def test_one_path_alone_has_no_ratio(tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    options = ["--backbone", "llama", "--size", "tiny", "--only", "project", "--out", out]
    command(monkeypatch, *options, *SHORT)
    result = json.loads(out.read_text(encoding="utf-8"))
    assert list(result["paths"]) == ["project"] and result["ratio"] == {}
    assert "agreement" not in result


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": "full"}, "needs a CUDA device"),
        ({"memory": 24}, "no CUDA device"),
        ({"set": ["train.lora.rank=4"]}, "train.lora.rank: unknown key"),
        ({"set": ["lora.r=4"]}, "no section 'lora'"),
        ({"max_tokens": 4096}, "must hold one battle"),
        ({"set": ["train.quantization.type=none"]}, "--only project"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(options, said):
    with pytest.raises(UserError, match=said):
        bench(**options)


def test_a_refusal_is_no_traceback(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="1"):
        command(monkeypatch, "--backbone", "llama", "--size", "full")
    assert capsys.readouterr().err.startswith("error: --size full")


def test_only_tokens_of_examples_are_counted():
    batch = lengths.Batch([[1] * 3, [1] * 5, [1] * 2, [1] * 4, [1] * 6], [0] * 5)
    assert batch.tokens == 20
    assert padded_share([batch], by_length=False) == pytest.approx(1 - 20 / (4 * 5 + 6))
    assert padded_share([batch], by_length=True) == pytest.approx(1 - 20 / (4 * 5 + 6))
    halves = [lengths.Batch([[1] * 4] * 4, [0] * 4), lengths.Batch([[1] * 8] * 4, [0] * 4)]
    assert padded_share(halves, by_length=False) == 0

    made = lengths.batches(lengths.arena_lengths(64, 2048), 16, vocabulary=100)
    assert [len(each.ids) for each in made] == [16] * 4
    sizes = sorted(len(ids) for each in made for ids in each.ids)
    assert sum(sizes) == sum(each.tokens for each in made)
    assert sizes[-1] == 2048 and sizes[32] == pytest.approx(562, rel=0.05)
    tokens = {token for each in made for ids in each.ids for token in ids}
    assert published.PAD not in tokens and max(tokens) < 100
    assert made == lengths.batches(lengths.arena_lengths(64, 2048), 16, vocabulary=100)


@pytest.mark.parametrize("backbone", ["llama", "gemma", "qwen"])
def test_random_weights_are_a_quantised_checkpoint_in_the_librarys_start(backbone):
    setup = bench(backbone, set=["train.dtype=float32"])
    base = random_base(setup.config, setup.params.train, CPU)
    linear = [m for m in base.modules() if isinstance(m, Linear4bit)]
    assert len(linear) == 14 and not isinstance(base.get_output_embeddings(), Linear4bit)
    for module in linear:
        weight = dequantize_4bit(module.weight, module.weight.quant_state)
        assert weight.std().item() == pytest.approx(setup.config.initializer_range, rel=0.1)
        assert module.weight.quant_state.nested
    found = dict(base.named_buffers())
    expected = AutoModelForCausalLM.from_config(setup.config)
    for name, buffer in expected.named_buffers():
        torch.testing.assert_close(found[name], buffer)
    own = {n: p for n, p in expected.named_parameters() if "norm" in n}
    for name, norm in own.items():
        torch.testing.assert_close(base.get_parameter(name).float(), norm)
    again = random_base(setup.config, setup.params.train, CPU)
    assert all(map(torch.equal, base.parameters(), again.parameters()))


def test_a_twin_shares_the_quantised_weights_alone():
    setup = bench()
    base = random_base(setup.config, setup.params.train, CPU)
    copied = twin(base)
    for name, parameter in base.named_parameters():
        quantised = parameter.dtype == torch.uint8
        assert (copied.get_parameter(name) is parameter) == quantised, name
    assert copied.config is not base.config


@pytest.mark.parametrize(
    ("backbone", "billions"), [("llama", 6.98), ("gemma", 8.32), ("qwen", 6.53)]
)
def test_the_published_shapes_have_the_published_sizes(backbone, billions):
    count = linear_parameters(published.configuration(backbone, "full"))
    assert count / 1e9 == pytest.approx(billions, abs=0.01)


@pytest.mark.parametrize("backbone", ["llama", "gemma", "qwen"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_both_paths_compute_the_same(backbone, dtype):
    setup = bench(backbone, set=[f"train.dtype={dtype}"])
    runs = load_paths(["stock", "project"], setup)
    stock, project = (agreement.outcome(run.path, setup.batches[0]) for run in runs.values())
    found = agreement.compare(project, stock, reference(setup), setup.dtype)
    assert found["same"], found
    assert found["gradients"] < (1e-4 if dtype == "float32" else 0.05)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("planted", ["leak", "loss scale", "frozen head"])
def test_a_planted_difference_is_caught(planted, dtype, monkeypatch):
    setup = bench(set=[f"train.dtype={dtype}"])
    runs = load_paths(["stock", "project"], setup)
    batch, project = setup.batches[0], runs["project"].path
    if planted == "leak":  # attention reads on into the example before

        def leaking(lengths, *others):
            return replace(segments(lengths, *others), lengths=(sum(lengths),))

        monkeypatch.setattr("stages.model.packed.segments", leaking)
    elif planted == "loss scale":
        accumulate = project.accumulate

        def scaled(batch):
            loss = accumulate(batch)
            for parameter in runs["project"].trained:
                parameter.grad.mul_(1.1)
            return loss

        monkeypatch.setattr(project, "accumulate", scaled)
    stock, found = (agreement.outcome(run.path, batch) for run in runs.values())
    if planted == "frozen head":
        name = next(n for n in found.gradients if "score" in n)
        found.gradients[name].zero_()
    result = agreement.compare(found, stock, reference(setup), setup.dtype)
    assert not result["same"], result
    with pytest.raises(UserError, match="does not compute what the stock recipe does"):
        require_agreement(result)


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("nvjet_tst_192x192_64x4_2x1_v_bz_coopB_NNT", "matrix products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "matrix products"),
        (
            "void kDequantizeBlockwise<__nv_bfloat16, 512, 64, 8, 2>(float*, unsigned char*)",
            "dequantisation",
        ),
        ("void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<...>", "attention"),
        ("triton_tem_fused_flex_attention_0", "attention"),
        ("triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_2", "norms and pointwise"),
        ("void at::native::elementwise_kernel<128, 4, ...>", "norms and pointwise"),
        ("something_else", "other"),
    ],
)
def test_kernels_are_grouped_by_name(kernel, expected):
    assert kernels.group(kernel) == expected


def test_overrides_are_those_of_params():
    args = Namespace(size="full", max_tokens=1024, set=["train.lora.r=8", "train.compile=false"])
    params = override(args)
    assert params.scale == "full" and params.budget.max_tokens == 1024
    assert params.train.lora.r == 8 and params.train.compile is False
    assert params.train.objective == "classify"
