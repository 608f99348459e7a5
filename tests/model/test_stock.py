"""A checkpoint as transformers loads it: what is stored in 4 bits means what it meant before."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer

from bench.architectures.trial import params
from stages.model import stock
from tests.support.architectures import CPU, Checkpoints

# Of four bits: three for the value (Open Compute Project's E2M1), the first for the sign.
E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
VALUES = torch.cat([E2M1, -E2M1])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("architectures"))


def loaded(checkpoint: Path, kind: str, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    train = params("classify", "float32", "auto").train
    quantization = train.quantization.model_copy(update={"type": kind})
    return stock.load(
        checkpoint, train.model_copy(update={"quantization": quantization}), dtype, CPU
    ).eval()


def logits(model: nn.Module, checkpoint: Path) -> Tensor:
    text = "User: which answer is better? A, B or tie"
    ids = AutoTokenizer.from_pretrained(checkpoint)(text, return_tensors="pt").input_ids
    with torch.no_grad():
        return model(input_ids=ids).logits.float()


def in_mxfp4(checkpoint: Path, stored: Path, twin: Path) -> None:
    """Write a gpt-oss checkpoint with random experts in MXFP4, and its twin in bfloat16."""
    for folder in (stored, twin):
        shutil.copytree(checkpoint, folder)
    tensors = {n: t.bfloat16() for n, t in load_file(checkpoint / "model.safetensors").items()}
    packed, plain = dict(tensors), dict(tensors)
    generator = torch.Generator().manual_seed(0)
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = tensors[name].shape
        size = (experts, outputs, inputs // 32)
        blocks = torch.randint(0, 256, (*size, 16), dtype=torch.uint8, generator=generator)
        scales = torch.randint(122, 126, size, dtype=torch.uint8, generator=generator)
        del packed[name]
        packed |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        plain[name] = decoded(blocks, scales).transpose(1, 2).contiguous().bfloat16()
    save_file(packed, stored / "model.safetensors", metadata={"format": "pt"})
    save_file(plain, twin / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((stored / "config.json").read_text(encoding="utf-8"))
    left = [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ]
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": left}
    (stored / "config.json").write_text(json.dumps(config), encoding="utf-8")


def decoded(blocks: Tensor, scales: Tensor) -> Tensor:
    """(experts, outputs, inputs): two values a byte, the lower half first; 32 share a scale."""
    halves = torch.stack([blocks & 15, blocks >> 4], dim=-1).flatten(-2).long()
    return (VALUES[halves] * 2.0 ** (scales.float() - 127)[..., None]).flatten(-2)


@pytest.fixture(scope="module")
def gpt_oss(checkpoints) -> tuple[Path, Path]:
    """The same weights in MXFP4 and in bfloat16."""
    stored, twin = checkpoints.folder / "mxfp4", checkpoints.folder / "bfloat16"
    in_mxfp4(checkpoints("gpt_oss"), stored, twin)
    return stored, twin


def test_mxfp4_is_read_as_what_it_stands_for(gpt_oss):
    stored, twin = gpt_oss
    models = [loaded(checkpoint, "none") for checkpoint in (stored, twin)]
    parameters = [dict(model.named_parameters()) for model in models]
    assert parameters[0].keys() == parameters[1].keys()
    for name, value in parameters[0].items():
        assert torch.equal(value, parameters[1][name]), name
    assert torch.equal(logits(models[0], stored), logits(models[1], twin))


def test_mxfp4_is_quantised_anew_to_nf4(gpt_oss):
    models = [loaded(checkpoint, "nf4") for checkpoint in gpt_oss]
    assert [stock.quantised_share(model) for model in models] == [pytest.approx(1, abs=0.01)] * 2
    assert torch.equal(*(logits(m, c) for m, c in zip(models, gpt_oss, strict=True)))


def unquantised(model: nn.Module) -> nn.Module:
    """The same model with each quantised matrix stored as the numbers that it stands for."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Linear4bit):
            plain = nn.Linear(module.in_features, module.out_features, module.bias is not None)
            eye = torch.eye(module.in_features)
            bias = torch.zeros(module.out_features) if module.bias is None else module.bias
            plain.weight.data = (module(eye) - bias).T.contiguous()
            plain.bias = module.bias
            model.set_submodule(name, plain)
    return model


READ_BY_THEIR_MODULE = [
    "llama",
    "falcon",
    "gpt2",
    "qwen3_moe",
    "mamba2",
    "jamba",
    "gemma3n",
    "bloom",
]


@pytest.mark.parametrize("model_type", READ_BY_THEIR_MODULE)
def test_no_quantised_weight_is_read_past_its_module(checkpoints, model_type):
    """Neither as packed bytes nor for its dtype."""
    checkpoint = checkpoints(model_type)
    model = loaded(checkpoint, "nf4", torch.float32)
    found = logits(model, checkpoint)
    expected = logits(unquantised(model), checkpoint)
    assert (found - expected).norm() < 1e-4 * expected.norm()
