"""A frozen base in shards: each process keeps a part of each layer, and gathers a layer to use it.

For a base that leaves a GPU too little room (27B, 70B). The adapter and the head stay whole in
every process, so that training, checkpoints and what is saved are those of an unsharded base. By
PyTorch's FSDP2 (Zhao et al. 2023).
"""

import os

import torch
from peft import PeftModel
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from stages.devices import processes
from stages.model.layers import decoder_layers


def wanted() -> bool:
    """Whether the environment has SHARD=1, and there are processes to share the base."""
    return os.environ.get("SHARD") == "1" and processes.count() > 1


def sharded(model: PeftModel) -> bool:
    """Whether a model's base is in shards."""
    return isinstance(decoder_layers(model)[0], FSDPModule)


def shard(model: PeftModel, device: torch.device) -> None:
    """Put a model's layers onto the device in shards, and all else whole.

    The model comes from the memory of the CPU: no GPU ever holds more of it than its shards.
    """
    mesh = init_device_mesh(device.type, (processes.count(),))
    trained = {p for p in model.parameters() if p.requires_grad}
    layers = decoder_layers(model)
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=trained)
    whole = {p for p in model.parameters() if not isinstance(p, DTensor)}
    for tensor in [*whole, *model.buffers()]:
        tensor.data = tensor.data.to(device)
    # Has no parameters of its own left, but lets a layer be gathered while the one before computes.
    fully_shard(model.get_base_model().base_model, mesh=mesh, ignored_params=whole)
    for layer in layers:
        _remember_quantisation(layer)


def _remember_quantisation(layer: FSDPModule) -> None:
    """A gathered weight has lost its constants, which stay whole in the module: give them back."""
    layer.unshard()
    for module in layer.modules():
        if getattr(module, "quant_state", None) is not None:
            module.weight.quant_state = module.quant_state
    layer.reshard()
