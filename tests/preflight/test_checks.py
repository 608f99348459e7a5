"""What is refused of a checkpoint by its configuration and tokenizer, and what is let through."""

import contextlib
import json
import re
from pathlib import Path

import pytest
import torch
import transformers as tf
from bitsandbytes.nn import Linear4bit
from torch.nn.utils.parametrize import is_parametrized
from transformers import AutoModelForCausalLM, PreTrainedConfig

from bench.architectures import tiny
from stages.config.errors import UserError
from stages.config.params import Params
from stages.model import stock
from stages.preflight import memory
from stages.preflight.candidate import Candidate
from stages.preflight.checks import check
from stages.preflight.kinds import kind_of

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 384}
LLAMA = SMALL | {"intermediate_size": 64, "architectures": ["LlamaForCausalLM"]}

NO_DEFAULT = {"gemma4_assistant", "nougat"}  # their configurations want to be told something


@pytest.fixture
def save(tmp_path, tiny_tokenizer):
    """Write a configuration and a tokenizer, and no weights, as a checkpoint's small files."""

    def write(config: PreTrainedConfig, **raw: object) -> Path:
        config.save_pretrained(tmp_path)
        tiny_tokenizer.save_pretrained(tmp_path)
        path = tmp_path / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | raw), encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture
def llama(save):
    """The small files of a tiny Llama, with changes to what its config.json holds."""

    def write(**raw: object) -> Path:
        return save(tf.LlamaConfig(**LLAMA), **raw)

    return write


def with_(params: Params, objective: str = "classify", **budget: int) -> Params:
    raw = params.model_dump()
    raw["train"]["objective"] = objective
    raw["scales"]["smoke"] |= budget
    return Params.model_validate(raw)


def refusal(folder: Path, params: Params, name: str = "maker/tiny") -> str:
    with pytest.raises(UserError) as caught:
        check(folder, name, params)
    return str(caught.value)


def vision_and_text() -> PreTrainedConfig:
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return tf.Gemma3Config(
        text_config=LLAMA | {"head_dim": 16}, vision_config=vision | {"intermediate_size": 32}
    )


# What is let through


@pytest.mark.parametrize("objective", ["classify", "sft"])
@pytest.mark.parametrize(
    "config",
    [
        tf.LlamaConfig(**LLAMA),
        tf.GPT2Config(**SMALL, architectures=["GPT2LMHeadModel"]),
        tf.MambaConfig(**SMALL, architectures=["MambaForCausalLM"]),
        tf.BloomConfig(**SMALL, architectures=["BloomForCausalLM"]),
        tf.MixtralConfig(**LLAMA | {"architectures": ["MixtralForCausalLM"]}),
        vision_and_text(),
    ],
    ids=lambda config: config.model_type,
)
def test_a_language_model_is_let_through(save, params, config, objective):
    check(save(config), "maker/tiny", with_(params, objective))


@pytest.mark.parametrize(
    ("kind", "architectures"),
    [
        (tf.ModernBertConfig, ["ModernBertForMaskedLM"]),
        (tf.DebertaV2Config, None),  # as microsoft/deberta-v3-large
        (tf.BertConfig, ["BertModel"]),
    ],
)
def test_an_encoder_classifies_but_writes_no_answers(save, params, kind, architectures):
    tokens = dict.fromkeys((f"{name}_token_id" for name in ("bos", "eos", "pad", "cls", "sep")), 0)
    folder = save(kind(**SMALL, **tokens, intermediate_size=64), architectures=architectures)
    check(folder, "maker/tiny", params)
    assert "set it to classify" in refusal(folder, with_(params, "sft"))


def test_mxfp4_is_let_through_since_transformers_dequantises_it(save, params):
    config = tf.GptOssConfig(**LLAMA | {"architectures": ["GptOssForCausalLM"]}, head_dim=16)
    check(save(config, quantization_config={"quant_method": "mxfp4"}), "openai/gpt-oss", params)


# What it is


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "llama9"}, "type llama9, which transformers"),
        ({"model_type": "chatglm", "auto_map": {"AutoModel": "m.M"}}, "code of its own"),
        ({"architectures": ["MyLlama"], "auto_map": {"AutoModel": "m.MyLlama"}}, "type MyLlama"),
        ({"model_type": None}, "names no model_type"),
        ({"hidden_size": "wide"}, "cannot become a backbone with transformers"),
        ({"hidden_size": 33}, "cannot become a backbone with transformers"),
    ],
)
def test_what_transformers_does_not_load_is_refused(llama, params, changes, said):
    assert said in refusal(llama(**changes), params)


def test_code_that_transformers_does_not_need_is_no_hindrance(llama, params):
    check(llama(auto_map={"AutoModel": "m.Llama"}, architectures=["LLaMAForCausalLM"]), "m", params)


@pytest.mark.parametrize("content", ["{", "[]", '"llama"'])
def test_a_broken_config_is_refused(llama, params, content):
    folder = llama()
    (folder / "config.json").write_text(content, encoding="utf-8")
    assert "its config.json" in refusal(folder, params)


def test_a_broken_tokenizer_is_refused(llama, params):
    folder = llama()
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    assert "cannot become a backbone" in refusal(folder, params)


def test_every_type_is_of_a_kind_or_refused_in_words():
    kinds = {"decoder": 0, "multimodal": 0, "encoder": 0}
    for name in set(tf.CONFIG_MAPPING) - NO_DEFAULT:
        with contextlib.suppress(UserError):
            kinds[kind_of(tf.CONFIG_MAPPING[name]())] += 1
    assert min(kinds.values()) > 40


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (tf.T5Config(), "decoder writes what its encoder has read"),
        (tf.WhisperConfig(), "a model of sound"),
        (tf.ViTConfig(), "a model of images"),
        (tf.MusicgenConfig(), "a model of music"),
        (tf.EsmConfig(vocab_size=33), "a model of proteins"),
    ],
)
def test_other_models_are_refused_by_what_they_are(config, said):
    with pytest.raises(UserError, match=said):
        kind_of(config)


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("LlamaForSequenceClassification", "a classifier or a reward model"),
        ("LlamaForTokenClassification", "a reward model of steps"),
        ("LlamaForQuestionAnswering", "marks answers"),
        ("LlamaModel", "without a language-model head"),
        ("LlamaForMaskedLM", "fills in masked words"),
    ],
)
def test_a_decoder_with_another_head_is_refused(llama, params, architecture, said):
    message = refusal(llama(architectures=[architecture]), params)
    assert architecture in message and said in message


def test_an_encoder_that_was_made_a_classifier_is_refused(save, params):
    config = tf.BertConfig(**SMALL, architectures=["BertForSequenceClassification"])
    assert "expected an encoder" in refusal(save(config), params)


# How it is stored


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-8B"),
        ("unsloth/gemma-2-9b-it-bnb-4bit", "unsloth/gemma-2-9b-it"),
        ("unsloth/Qwen3-4B-unsloth-bnb-4bit", "unsloth/Qwen3-4B"),
        ("RedHatAI/gemma-3-4b-it-quantized.w4a16", "RedHatAI/gemma-3-4b-it"),
        ("TheBloke/Mistral-7B-v0.1-AWQ", "TheBloke/Mistral-7B-v0.1"),
    ],
)
def test_a_quantised_checkpoint_names_the_one_that_it_was_made_from(llama, params, name, plain):
    folder = llama(quantization_config={"quant_method": "gptq", "bits": 4})
    assert refusal(folder, params, name).endswith(f"perhaps {plain}")


@pytest.mark.parametrize("method", ["awq", "compressed-tensors", "fp8", "bitsandbytes", "bitnet"])
def test_stored_quantised_is_refused_by_its_method(llama, params, method):
    assert f"({method})" in refusal(llama(quantization_config={"quant_method": method}), params)


def test_quantised_by_other_programs_is_refused(llama, params):
    message = refusal(llama(quantization={"group_size": 64, "bits": 4}), params)  # as MLX does
    assert message.endswith("take its publisher's unquantised checkpoint")


# Tokens and positions


def test_tokens_without_a_row_in_the_embedding_are_refused(llama, params):
    message = refusal(llama(vocab_size=270), params)
    assert re.search("270 rows in its embedding, but [0-9]+ tokens beyond", message)


def test_a_special_token_beyond_the_embedding_counts_if_a_prompt_may_hold_it(
    llama, params, tiny_tokenizer
):
    folder = llama(vocab_size=len(tiny_tokenizer))
    added = {"additional_special_tokens": ["<image_soft_token>"]}  # as in Gemma 3
    tokenizer = tf.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens(added)
    tokenizer.save_pretrained(folder)
    check(folder, "google/gemma-3-1b-it", params)
    tokenizer.chat_template = "<image_soft_token>{{ messages }}"
    tokenizer.save_pretrained(folder)
    assert "such as <image_soft_token>" in refusal(folder, params)
    tokenizer.chat_template = None
    tokenizer.pad_token = "<image_soft_token>"
    tokenizer.save_pretrained(folder)
    assert "such as <image_soft_token>" in refusal(folder, params)


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LLAMA3 = YARN | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("config", "most"),
    [
        (tf.LlamaConfig(**LLAMA, max_position_embeddings=200), 200),
        (tf.LlamaConfig(**LLAMA, max_position_embeddings=128, rope_parameters=YARN), 512),
        (tf.LlamaConfig(**LLAMA, max_position_embeddings=256, rope_parameters=LLAMA3), 256),
        (tf.GPT2Config(**SMALL, n_positions=200), 200),
        (tf.RobertaConfig(**SMALL, max_position_embeddings=202), 200),  # counts from 2
        (tf.BertConfig(**SMALL, max_position_embeddings=200), 200),
    ],
)
def test_a_prompt_must_not_be_longer_than_a_model_has_positions(save, params, config, most):
    folder = save(config, architectures=None)
    check(folder, "m", with_(params, max_tokens=most, token_budget=1024))
    message = refusal(folder, with_(params, max_tokens=most + 1, token_budget=1024))
    assert f"at most {most} tokens" in message and "scales.smoke.max_tokens" in message


@pytest.mark.parametrize(
    "config",
    [
        tf.MambaConfig(**SMALL),
        tf.BloomConfig(**SMALL),
        tf.FalconConfig(**SMALL, alibi=True, max_position_embeddings=64),
        tf.DebertaV2Config(**SMALL, position_biased_input=False, max_position_embeddings=64),
    ],
    ids=lambda config: config.model_type,
)
def test_a_model_without_positions_takes_any_length(save, params, config):
    check(save(config, architectures=None), "m", with_(params, max_tokens=900, token_budget=1024))


# Memory


def test_what_is_larger_than_the_memory_is_refused_with_the_numbers(llama, params, monkeypatch):
    matrices, rest = memory.weights(Candidate(llama(), "m", params))
    needed = int(matrices * (0.5 + 1 / 64) + rest * 4)
    monkeypatch.setattr(memory, "_memory", lambda: ("this machine has", needed + 1))
    check(llama(), "m", params)
    monkeypatch.setattr(memory, "_memory", lambda: ("this machine has", needed - 1))
    assert f"{matrices:,} in its layers at 4.1 bits" in refusal(llama(), params)


def test_this_machine_has_memory():
    said, size = memory._memory()
    assert said.endswith("has") and 2**30 < size < 2**45


def test_llama_3_1_8b_is_counted_by_its_configuration(save, params):
    config = tf.LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    found = Candidate(save(config), "meta-llama/Llama-3.1-8B", with_(params, "sft"))
    assert memory.weights(found) == (6_979_321_856, 8_030_261_248 - 6_979_321_856)
    without_head = Candidate(found.folder, found.name, params)
    assert memory.weights(without_head)[1] == memory.weights(found)[1] - 128256 * 4096


@pytest.mark.parametrize("model_type", ["dbrx", "jetmoe", "gpt_oss"])
def test_what_counts_as_quantised_is_what_will_be(tmp_path, params, model_type):
    tiny.make(model_type, tmp_path)
    model = stock.load(tmp_path, params.train, torch.float32, torch.device("cpu"))
    stored = 0
    for module in model.modules():
        if isinstance(module, Linear4bit):
            stored += module.in_features * module.out_features
        elif is_parametrized(module):
            stored += sum(p[0].quant_state.shape.numel() for p in module.parametrizations.values())
    assert memory.weights(Candidate(tmp_path, "m", params))[0] == stored


def test_experts_are_quantised_and_towers_for_images_are_not_kept(save, params):
    config = tf.MixtralConfig(**LLAMA, num_local_experts=4)
    matrices, rest = memory.weights(Candidate(save(config), "m", with_(params, "sft")))
    with torch.device("meta"):
        whole = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    routers, norms, embeddings = 2 * 4 * 32, 5 * 32, 2 * 384 * 32
    assert (matrices + rest, rest) == (whole, routers + norms + embeddings)
    config = vision_and_text()
    with torch.device("meta"):
        text = AutoModelForCausalLM.from_config(config.text_config)
    counted = memory.weights(Candidate(save(config), "m", with_(params, "sft")))
    assert sum(counted) == sum(p.numel() for p in text.parameters())
