"""A checkpoint as transformers loads it: its language model alone, quantised, unchanged.

What is special to a family is declared in `families`. Where a multimodal checkpoint keeps its text,
transformers itself says (`get_decoder`).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from bitsandbytes.nn.parametrize import replace_parameter_4bit
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    BitsAndBytesConfig,
    Mxfp4Config,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.pytorch_utils import Conv1D

from stages.config.errors import UserError, out_of_memory
from stages.config.params import Train
from stages.model.families import (
    ASIDE,
    CHANCE,
    EXPERTS,
    LEFT,
    LINEAR,
    MAMBA,
    NO_MATRIX,
    OTHER_SENSES,
    READ_PAST,
)
from stages.model.kinds import is_encoder, reads_both_ways
from stages.model.whole import check_report


def load(weights: Path, train: Train, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Load a checkpoint's language model in eager attention, its layers quantised.

    Args:
        weights: a folder in transformers' layout, safetensors only.

    Raises:
        UserError: transformers has no language model of that kind, or the weights are not its own.
    """
    with explained(f"transformers cannot load {weights}"):
        config = AutoConfig.from_pretrained(weights)
        kind, config = language_model(config)
        if is_encoder(config) and train.objective == "sft":
            raise UserError(
                f"train.objective is sft, but a {config.model_type} is an encoder, which predicts "
                "no next token: set it to classify, or take a decoder"
            )
        _settle(config)
        model, report = kind.from_pretrained(
            weights,
            config=config,
            dtype=dtype,
            attn_implementation="eager",
            quantization_config=quantization(kind, config, train, dtype),
            use_safetensors=True,
            device_map={"": device},
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report, and refused with it
        )
        check_report(report, weights, model, train.objective)
        model = text_part(model)
    if train.quantization.type != "none":
        quantise_the_rest(model, train, dtype)
    for module in model.modules():
        if isinstance(module, Linear4bit):  # else some CPUs repack it in place
            module.support_avx512bf16_for_cpu = False
    return model


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Say in words that transformers, which can raise anything, does not serve a checkpoint."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{what} ({reason[:500]}): take another checkpoint") from error


def _settle(config: PreTrainedConfig) -> None:
    """Let nothing be kept from one pass to the next, and nothing be left to chance in training."""
    for part in (config, config.get_text_config()):
        part.use_cache = False
        for name, value in vars(part).items():
            if CHANCE.search(name) and isinstance(value, float):
                setattr(part, name, 0.0)


def language_model(config: PreTrainedConfig) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    """The class that transformers has for a checkpoint's text, or for its text and images.

    Returns:
        The class, and the configuration that it takes: the whole, or that of the text alone.

    Raises:
        UserError: it has none.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"the checkpoint is a {config.model_type}, an encoder with a decoder: expected a "
            "decoder, an encoder, or a multimodal model with a decoder; take another checkpoint"
        )
    if is_encoder(config):
        kind = MODEL_MAPPING[type(config)]
        return kind[0] if isinstance(kind, tuple) else kind, config  # Funnel has two
    mappings = (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        MODEL_FOR_MULTIMODAL_LM_MAPPING,
    )
    kinds = [mapping[type(config)] for mapping in mappings if type(config) in mapping]
    named = [kind for kind in kinds if kind.__name__ in (config.architectures or [])]
    if kinds:
        kind = _without_lacking((named or kinds)[0], config)
        whole = isinstance(config, kind.config_class)
        return kind, config if whole else config.get_text_config()
    raise UserError(
        f"the checkpoint is a {config.model_type}, for which transformers has no language model: "
        "expected a decoder, an encoder, or a multimodal model with a decoder; take another "
        "checkpoint"
    )


def _without_lacking(
    kind: type[PreTrainedModel], config: PreTrainedConfig
) -> type[PreTrainedModel]:
    """The class, or that of the text alone where a library for the other parts is not installed."""
    alone = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config.get_text_config()), kind)
    if alone is kind:
        return kind
    try:
        with torch.device("meta"):
            kind(config)
    except ImportError:
        if alone.__module__ != kind.__module__:  # it would look for the tensors by other names
            raise
        return alone
    return kind


def backbone(base: PreTrainedModel) -> nn.Module:
    """The part of a model that has the layers and not the head; all of an encoder."""
    if not hasattr(base, "found_backbone"):  # every pass asks for it
        base.found_backbone = (_backbone(base),)  # in a tuple: no second name for it
    return base.found_backbone[0]


def _backbone(base: PreTrainedModel) -> nn.Module:
    if reads_both_ways(base):
        return base
    layers = decoder_layers(base)
    return next(c for c in base.children() if any(module is layers for module in c.modules()))


def text_model(model: PreTrainedModel) -> PreTrainedModel:
    """The part of a model that reads text, as transformers names it."""
    decoder = model.get_decoder()
    return decoder if isinstance(decoder, PreTrainedModel) else model.base_model


def text_part(model: PreTrainedModel) -> PreTrainedModel:
    """The language model alone; towers for images and sound are let go, with their memory."""
    decoder = text_model(model)
    own = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(decoder.config), type(model))
    own = type(model) if reads_both_ways(model) else own
    if isinstance(model, own) or not issubclass(own, PreTrainedModel):
        _drop_towers(model, decoder)
        return model
    if isinstance(decoder, own):
        text = decoder
    else:
        with torch.device("meta"):
            text = own(decoder.config)
        setattr(text, text.base_model_prefix, decoder)
        text.set_output_embeddings(model.get_output_embeddings())
    for name in ("is_loaded_in_4bit", "is_quantized", "quantization_method", "hf_quantizer"):
        if hasattr(model, name):
            setattr(text, name, getattr(model, name))
    return text


def _drop_towers(model: PreTrainedModel, decoder: nn.Module) -> None:
    kept = {id(module) for module in decoder.modules()}
    for name, child in list(model.base_model.named_children()):
        holds = any(id(module) in kept for module in child.modules())
        if decoder is not model.base_model and not holds:
            setattr(model.base_model, name, nn.Identity())


# The layers, and how they are stored


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The backbone's layers, first to last: of all lists of modules the one with most in it."""
    lists = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and not OTHER_SENSES.search(name)
    ]
    if not lists:
        raise UserError(f"{type(model).__name__} has no list of layers: take another checkpoint")
    return max(lists, key=_numbers)


def _numbers(module: nn.Module) -> int:
    """How many numbers are computed with; a byte of quantised ones holds two."""
    return sum(
        parameter.numel() * (2 if parameter.dtype == torch.uint8 else 1)
        for part in module.modules()
        if not isinstance(part, nn.Embedding | nn.Conv2d)
        for parameter in part.parameters(recurse=False)
    )


def linear_names(model: nn.Module, layers: nn.ModuleList) -> list[str]:
    """The names of the linear modules in the layers, those apart that are to be left."""
    inside = {id(module) for module in layers.modules()}
    return [
        name
        for name, module in model.named_modules()
        if _linear(module) and id(module) in inside and not LEFT.search(name)
    ]


def _linear(module: nn.Module) -> bool:
    """Whether a module computes a matrix product and no more; some subclasses do more."""
    known = type(module).forward in (nn.Linear.forward, Conv1D.forward, Linear4bit.forward)
    return known or type(module).__name__ in LINEAR


def stacked(name: str, module: nn.Module) -> list[str]:
    """Which of a module's own parameters hold the matrices of all experts."""
    if isinstance(module, nn.Linear | nn.modules.conv._ConvNd) or LEFT.search(name):
        return []
    return [
        own
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 3 or (parameter.ndim == 2 and EXPERTS.search(f"{name}.{own}"))
        if not NO_MATRIX.search(own)
    ]


def adaptable(model: PreTrainedModel, experts: bool = False) -> list[str]:
    """What `all-linear` means: attention, shared and dense layers, but no routers.

    Args:
        experts: whether those that are linear modules are meant, too.
    """
    names = linear_names(model, decoder_layers(text_model(model)))
    past = READ_PAST if model.config.model_type in MAMBA else set()
    found = [
        name
        for name in names
        if (experts or not EXPERTS.search(name)) and not ASIDE.search(name)
        if name.rpartition(".")[2] not in past
    ]
    if not found:
        raise UserError(
            f"train.lora.targets is all-linear, but no linear layer of a {type(model).__name__} is "
            "of a kind that can be adapted: name its layers there, or take another backbone"
        )
    return found


def quantization(
    kind: type[PreTrainedModel], config: PreTrainedConfig, train: Train, dtype: torch.dtype
) -> BitsAndBytesConfig | Mxfp4Config | None:
    """How the layers' matrices are stored; heads, routers and other towers stay as they are.

    What comes in MXFP4 (gpt-oss) is de-quantised first.
    """
    if getattr(config, "quantization_config", None):
        return Mxfp4Config(dequantize=True)
    if train.quantization.type == "none":
        return None
    with torch.device("meta"):
        model = kind(config)
    wanted = set(linear_names(model, decoder_layers(text_model(model))))
    others = {n for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)} - wanted
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=train.quantization.type,
        bnb_4bit_use_double_quant=train.quantization.double,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=sorted(map(re.escape, others)),
    )


def quantise_the_rest(model: PreTrainedModel, train: Train, dtype: torch.dtype) -> None:
    """Quantise what transformers has left: what was de-quantised on load, and stacked experts."""
    for name in linear_names(model, decoder_layers(text_model(model))):
        module = model.get_submodule(name)
        if type(module) is nn.Linear or type(module).__name__ in LINEAR:
            model.set_submodule(name, _quantised(module, train, dtype))
    model.is_loaded_in_4bit = True  # as PEFT asks
    for name, module in list(decoder_layers(text_model(model)).named_modules()):
        quantise_experts(name, module, train)


def quantise_experts(name: str, module: nn.Module, train: Train) -> None:
    """Store a module's own parameters in 4 bits where they hold the matrices of all experts."""
    for own in stacked(name, module):
        how = {"compress_statistics": train.quantization.double}
        replace_parameter_4bit(module, own, quant_type=train.quantization.type, **how)


def stacked_experts(model: nn.Module) -> bool:
    """Whether a model has experts that are stored in one parameter, in 4 bits."""
    return any(nn.utils.parametrize.is_parametrized(module) for module in model.modules())


def _quantised(module: nn.Linear, train: Train, dtype: torch.dtype) -> Linear4bit:
    how = {"quant_type": train.quantization.type, "compress_statistics": train.quantization.double}
    size, device = (module.in_features, module.out_features), module.weight.device
    new = Linear4bit(*size, module.bias is not None, dtype, device="meta", **how)
    new.weight = Params4bit(module.weight.data, requires_grad=False, **how).to(device)
    new.bias = module.bias
    return new.requires_grad_(False)


def quantised_share(model: nn.Module) -> float:
    """Which share of the weights in the layers' matrices is stored in 4 bits."""
    stored = whole = 0
    for name, module in decoder_layers(model).named_modules():
        if isinstance(module, Linear4bit):
            stored += module.in_features * module.out_features
        elif nn.utils.parametrize.is_parametrized(module):
            stored += sum(p[0].quant_state.shape.numel() for p in module.parametrizations.values())
        elif not re.search(r"lora_|parametrizations", name):
            whole += sum(p.numel() for p in module.parameters(recurse=False) if p.ndim > 1)
    return stored / max(stored + whole, 1)
