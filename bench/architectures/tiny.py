"""Writes a tiny random checkpoint of a model type, in the layout that its publishers use."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto import modeling_auto as auto
from transformers.pytorch_utils import Conv1D

from bench.architectures.sizes import DERIVED, SIZES, SPECIAL

CAUSAL = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
MULTIMODAL = {
    **auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    **auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
}
CLASSIFIER = auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
MASKED = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
TO_SEQUENCE = auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

SPECIAL_TOKENS = ["<s>", "</s>", "<pad>", *(f"<extra_{i}>" for i in range(29))]
BOS, EOS, PAD = 0, 1, 2
VOCABULARY = 384
TRAINING_TEXT = "User: which answer is better? A, B or tie"
TIMM = ("timm_wrapper", "gemma3n_vision")  # vision towers of another library
KEPT = re.compile("A_log|dt_|time_")  # matrices whose initial values mean something


def causal_types() -> list[str]:
    """Model types that transformers has a causal language model of text alone for."""
    return sorted(set(CAUSAL) - set(MULTIMODAL) - set(encoder_types()))


def multimodal_types() -> list[str]:
    """Model types that read text beside images, video or sound, and write text."""
    return sorted(MULTIMODAL)


def encoder_types() -> list[str]:
    """Model types that read text both ways and have a classification class."""
    both_ways = {name for name in CLASSIFIER if name in MASKED or name not in CAUSAL}
    return sorted(both_ways - set(MULTIMODAL) - set(TO_SEQUENCE))


def model_class(model_type: str) -> type[PreTrainedModel]:
    """The class that a published checkpoint of this type names as its architecture."""
    kinds = [MULTIMODAL, TO_SEQUENCE]
    kinds += [MASKED, CLASSIFIER] if model_type in encoder_types() else [CAUSAL]
    name = next(kind[model_type] for kind in kinds if model_type in kind)
    return getattr(transformers, name)


def make(model_type: str, folder: Path, seed: int = 0, **own: int) -> PreTrainedConfig:
    """Write a tiny random checkpoint of a model type into a folder; `own` are sizes to set.

    The folder holds weights in float32 (safetensors), the configuration with `architectures`,
    and a byte-level BPE tokenizer of 384 entries. The same seed gives the same weights.
    """
    transformers.set_seed(seed)
    config = tiny_config(transformers.CONFIG_MAPPING[model_type], own=own)
    with uninitialised_is_nan(), without_timm():
        model = model_class(model_type)(config)
    fill(model)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model.config


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a start token, and entries reserved for images."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([TRAINING_TEXT] * 8, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair=None, special_tokens=[("<s>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def tiny_config(
    config_class: type[PreTrainedConfig],
    ids: dict[str, int] | None = None,
    own: Mapping[str, Any] | None = None,
) -> PreTrainedConfig:
    """A configuration of a class: its defaults, but small.

    Args:
        ids: token ids given out before.
        own: sizes that it is to have.
    """
    ids = {} if ids is None else ids
    default = config_class()
    parts = {
        name: tiny_config(type(value), ids)
        for name, value in fields(default).items()
        if isinstance(value, PreTrainedConfig)
    }
    special = SPECIAL.get(config_class.model_type, {})
    given = parts | sizes(default) | token_ids(default, ids) | layer_kinds(default) | special
    return config_class(**{**given, **(own or {})})


def fields(default: PreTrainedConfig) -> dict[str, Any]:
    """What a configuration can be given, and its defaults."""
    names = [field.name for field in dataclasses.fields(default)]
    own = {name: default.attribute_map.get(name, name) for name in names}
    return {name: vars(default)[own[name]] for name in names if own[name] in vars(default)}


def sizes(default: PreTrainedConfig) -> dict[str, int]:
    """The small sizes for those attributes that a configuration has."""
    values = fields(default)
    common = {own: name for name, own in default.attribute_map.items()}
    names = {name: name if name in SIZES else common.get(name) for name in values}
    found = {name: SIZES[known] for name, known in names.items() if known in SIZES}
    if "kv_lora_rank" in found:  # latent attention has a key head for every query head
        found["num_key_value_heads"] = found["num_attention_heads"]
    derived = {name for name in DERIVED if name in values and values[name] is None}
    given = {name for name in found if type(values[name]) is int and values[name] > 0}
    return {name: size for name, size in found.items() if name in given | derived}


def token_ids(default: PreTrainedConfig, ids: dict[str, int]) -> dict[str, int]:
    """The tokenizer's special entries for a configuration's tokens, reserved ones for images."""
    own = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    found = {}
    for name, value in fields(default).items():
        token = re.sub("_token_(id|index)$", "", name)
        if name in own:
            found[name] = own[name]
        elif token != name and type(value) is int:
            found[name] = ids.setdefault(token, len(SPECIAL_TOKENS) - 1 - len(ids))
    return found


def layer_kinds(default: PreTrainedConfig) -> dict[str, Any]:
    """Lists with an entry a layer, cut to the first layer of each kind (two layers at least)."""
    depth = default.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    values = fields(default)
    lists = {
        name: list(value)
        for name, value in values.items()
        if isinstance(value, list | tuple) and len(value) == values.get(depth)
        if list(value) != list(range(len(value)))  # that one lists layers
    }
    if not lists:
        return {}
    kinds = [str(kind) for kind in zip(*lists.values(), strict=True)]
    chosen = sorted({kinds.index(kind) for kind in kinds})
    chosen = chosen if len(chosen) > 1 else [0, 1]
    cut = {name: [value[layer] for layer in chosen] for name, value in lists.items()}
    return cut | {depth: len(chosen)}


@contextmanager
def uninitialised_is_nan() -> Iterator[None]:
    """Fill memory that nothing has written with NaN, so that it can be told from a value."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def without_timm() -> Iterator[None]:
    """Build and load models whose vision tower is timm's, with a small convolution in its place.

    The library need not be installed. The tower's tensors lie where its own would lie.
    """
    build = transformers.AutoModel.from_config

    def from_config(config: PreTrainedConfig, **options: Any) -> torch.nn.Module:
        if config.model_type not in TIMM:
            return build(config, **options)
        tower = torch.nn.Module()
        tower.timm_model = torch.nn.Conv2d(3, 8, 8)
        return tower

    with mock.patch.object(transformers.AutoModel, "from_config", from_config):
        yield


@torch.no_grad()
def fill(model: PreTrainedModel) -> None:
    """Give every tensor of a checkpoint a value that a wrong computation cannot hide behind."""
    kept = model.state_dict().keys()
    for path, module in model.named_modules():
        for name, weight in module.named_parameters(recurse=False):
            spread = matrix_spread(module, weight)
            if weight.ndim > 1 and weight.requires_grad and not KEPT.search(name):
                weight.normal_(0, spread)
            else:
                roughen(weight)
        for name, buffer in module.named_buffers(recurse=False):
            if f"{path}.{name}".lstrip(".") in kept and buffer.is_floating_point():
                roughen(buffer)


def matrix_spread(module: torch.nn.Module, weight: torch.Tensor) -> float:
    """The standard deviation that keeps a layer's outputs about as large as its inputs."""
    if isinstance(module, torch.nn.Embedding):
        return 0.3
    if isinstance(module, torch.nn.modules.conv._ConvNd):
        inputs = weight[0].numel()
    elif isinstance(module, Conv1D):
        inputs = weight.shape[0]
    else:
        inputs = min(weight.shape[-2:]) if weight.ndim > 2 else weight.shape[-1]
    return 1.2 / inputs**0.5


def roughen(weight: torch.Tensor) -> None:
    """Replace what was left uninitialised, and make what is constant (zeros, ones) uneven."""
    noise = torch.randn_like(weight)
    if weight.isnan().any():
        weight.copy_(0.5 * noise)
    elif weight.isfinite().all() and (weight == weight.flatten()[0]).all():
        weight.add_(0.1 * noise * torch.where(weight == 0, 1, weight))
