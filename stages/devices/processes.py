"""The processes of one training, each with its GPU, as torchrun starts them; or one alone.

Each holds the whole adapter and optimiser, computes its share of every global batch, and adds its
gradient to the others' once a step. DistributedDataParallel would ask for a backward pass in each,
also in one without an example, and Accelerate refuses to wrap a base in shards with it.
"""

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stages.config.errors import UserError


def connect() -> None:
    """Join the others, if torchrun started any; from then on `cuda` is this process's own GPU.

    Raises:
        UserError: this machine has fewer GPUs than processes.
    """
    if "LOCAL_RANK" not in os.environ:
        return
    if torch.cuda.is_available():
        local, found = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if local > found:
            raise UserError(
                f"{local} processes were started on a machine with {found} GPUs: expected one GPU "
                f"a process; start torchrun with --nproc-per-node {found}"
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0; 0 writes what the training leaves behind."""
    return dist.get_rank() if dist.is_initialized() else 0


def gather(value: object) -> list:
    """Every process's value, in the order of their ranks."""
    values = [value] * count()
    if count() > 1:
        dist.all_gather_object(values, value)
    return values


def agree(value: object, what: str) -> None:
    """Make sure that a value is the same in every process.

    Raises:
        UserError: it is not, as where machines do not share a folder; `what` names it.
    """
    values = gather(value)
    if any(other != value for other in values):
        raise UserError(
            f"expected the same {what} in every process, found {values}: let the machines share "
            ".state, or delete .state/checkpoints on all of them to start anew"
        )


def broadcast(parameters: Sequence[nn.Parameter]) -> None:
    """Give every process the parameters of the first."""
    if count() > 1:
        for parameter in parameters:
            dist.broadcast(parameter.data, src=0)


def add_up(loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    """Replace the loss and the parameters' gradients by their sums over all processes."""
    if count() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:  # this process had no example
            parameter.grad = torch.zeros_like(parameter)
    tensors = [loss, *(parameter.grad for parameter in parameters)]
    flat = torch.cat([tensor.flatten() for tensor in tensors])  # one exchange, not hundreds
    dist.all_reduce(flat)
    sums = flat.split([tensor.numel() for tensor in tensors])
    for tensor, summed in zip(tensors, sums, strict=True):
        tensor.copy_(summed.view_as(tensor))


def disconnect() -> None:
    """Leave the others, when all is done."""
    if dist.is_initialized():
        dist.destroy_process_group()
