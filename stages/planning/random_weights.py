"""A base of random weights, quantised on the device, of which the whole is never there in bf16."""

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.integrations import replace_with_bnb_linear

from stages.config.params import Train
from stages.model import stock
from stages.model.build import compute_dtype


def random_base(config: PreTrainedConfig, train: Train, device: torch.device) -> PreTrainedModel:
    """What `stock.load` gives for a checkpoint of that configuration, at its random start.

    Every call gives the same weights. Beside what the quantised model needs, one module at a time
    is held unquantised.
    """
    dtype = compute_dtype(train.dtype, device)
    kind, config = stock.language_model(config)
    config.use_cache = False
    with torch.device("meta"):
        base = kind._from_config(config, dtype=dtype, attn_implementation="eager")
    how = stock.quantization(kind, config, train, dtype)
    if how:
        replace_with_bnb_linear(base, how.llm_int8_skip_modules, how)
        base.is_loaded_in_4bit = True
    torch.manual_seed(0)
    layers = {id(module) for module in stock.decoder_layers(stock.text_model(base)).modules()}
    for name, module in list(base.named_modules()):
        if isinstance(module, Linear4bit):
            _fill_quantised(module, base, dtype, device)
        else:
            _fill(module, base, device)
            if how and id(module) in layers:
                stock.quantise_experts(name, module, train)
    for module in base.modules():
        if isinstance(module, Linear4bit):  # on some CPUs it would repack the weight in place
            module.support_avx512bf16_for_cpu = False
    return base


def _fill(module: nn.Module, base: PreTrainedModel, device: torch.device) -> None:
    """Give a module, without those inside it, the library's own random start."""
    module.to_empty(device=device, recurse=False)
    base._init_weights(module)


def _fill_quantised(
    module: Linear4bit, base: PreTrainedModel, dtype: torch.dtype, device: torch.device
) -> None:
    settings = vars(module.weight)
    _fill(module.to(dtype), base, device)
    weight = Params4bit(module.weight.data, requires_grad=False, **settings)
    module.weight = weight.to(device)  # quantised as it moves


def linear_parameters(config: PreTrainedConfig) -> int:
    """Parameters of the decoder's linear layers, the N of its FLOPs: no embedding, no head."""
    with torch.device("meta"):
        decoder = AutoModel.from_config(config)
    return sum(m.weight.numel() for m in decoder.modules() if isinstance(m, nn.Linear))
