"""An adapter merged into its base: a plain model of transformers, in bfloat16."""

import copy
from collections.abc import Iterator

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from peft.tuners.lora import LoraLayer, ParamWrapper
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from stages.config.errors import UserError
from stages.deployment.source import Source
from stages.model.head import HEAD, head
from stages.model.stock import explained, stacked_experts
from stages.training.gates.reference import computing_in
from stages.votes.labels import LABELS


def merge(model: PeftModel, source: Source) -> PreTrainedModel:
    """The model of transformers' own class that computes what base and adapter do together.

    A quantised base is de-quantised, so what is merged into is what the adapter was trained on.

    Raises:
        UserError: the base has layers that cannot be merged.
    """
    if stacked_experts(model) or any(isinstance(m, ParamWrapper) for m in model.modules()):
        raise UserError(
            "the experts of this mixture lie in one parameter, which is not merged here: export "
            "the adapter alone, without --merged"
        )
    config = plain_config(source)
    with computing_in(model, torch.float32):  # de-quantised in float32, and rounded once
        state = {name: t.to("cpu", torch.bfloat16) for name, t in _tensors(model)}
    if source.params.train.objective == "reward":
        state[f"{HEAD}.weight"] = state[f"{HEAD}.weight"][:1].contiguous()
    with explained(f"a {source.kind.__name__} does not hold the layers of the run's model"):
        with torch.device("meta"):
            plain = source.kind(config)
        plain.load_state_dict(state, assign=True)
        plain.tie_weights()
    return plain


def plain_config(source: Source) -> PreTrainedConfig:
    """The base's configuration, with the labels of the run; `reward` scores one answer."""
    config = copy.deepcopy(source.config)
    vars(config).pop("quantization_config", None)  # of a base that came quantised
    config.name_or_path = source.record["checkpoint"]
    if source.params.train.objective != "sft":
        reward = source.params.train.objective == "reward"
        names = ["score"] if reward else LABELS[: source.classes]
        config.id2label = dict(enumerate(names))
        config.label2id = {name: place for place, name in enumerate(names)}
        config.pad_token_id = padding(source.tokenizer)
    return config


def padding(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token with which texts are padded; transformers reads the last one that is another."""
    own = tokenizer.pad_token_id
    return tokenizer.eos_token_id if own is None else own


def _tensors(model: PeftModel) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of the merged model, by the names of the base without adapter."""
    base = model.get_base_model()
    inside: tuple[str, ...] = ()
    for name, module in base.named_modules():
        if name.startswith(inside):
            continue
        if isinstance(module, LoraLayer):
            inside = (*inside, f"{name}.")
            layer = module.base_layer
            yield f"{name}.weight", _dense(layer) + module.get_delta_weight("default").float()
            yield from _bias(name, layer)
        elif name == HEAD:
            inside = (*inside, f"{name}.")
            yield f"{name}.weight", head(model).weight
        elif isinstance(module, Linear4bit):
            yield f"{name}.weight", _dense(module)
            yield from _bias(name, module)
        else:
            prefix = f"{name}." if name else ""
            passing = module._non_persistent_buffers_set
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            yield from ((prefix + key, tensor) for key, tensor in own if key not in passing)


def _bias(name: str, layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    if layer.bias is not None:
        yield f"{name}.bias", layer.bias


def _dense(layer: nn.Module) -> Tensor:
    """A layer's matrix in float32, de-quantised if need be."""
    weight = layer.weight
    if isinstance(layer, Linear4bit):
        return dequantize_4bit(weight.data, weight.quant_state).float()
    return weight.float()
