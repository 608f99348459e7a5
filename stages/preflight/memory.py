"""Whether a checkpoint's weights fit into the memory of this machine, whatever the plan."""

import os

import torch

from stages.config.errors import UserError
from stages.config.params import Train
from stages.model import stock
from stages.preflight.candidate import Candidate

GIB = 2**30


def fits_into_memory(found: Candidate) -> None:
    """Weights alone that are larger than the memory cannot be trained on."""
    quantisation = found.params.train.quantization
    matrices, rest = weights(found)
    narrow, wide = widths(found.params.train)
    needed = matrices * narrow + rest * wide
    where, memory = _memory()
    if needed > memory:
        raise UserError(
            f"{found.name} needs {needed / GIB:.1f} GiB for its weights alone: {matrices:,} in its "
            f"layers at {narrow * 8:.1f} bits, {rest:,} others at {wide * 8}; but {where} "
            f"{memory / GIB:.1f} GiB: take a smaller checkpoint or a larger machine"
            + (", or set train.quantization.type to nf4" if quantisation.type == "none" else "")
        )


def widths(train: Train) -> tuple[float, int]:
    """Bytes of a weight in the layers' matrices, and of another."""
    wide = 4 if train.dtype == "float32" else 2  # `auto` may take either
    if train.quantization.type == "none":
        return wide, wide
    # And a constant for 64 weights, in 8 bits or in 32.
    return 0.5 + (1 if train.quantization.double else 4) / 64, wide


def weights(found: Candidate) -> tuple[int, int]:
    """How many weights lie in the layers' matrices, which are quantised, and how many elsewhere."""
    layers = stock.decoder_layers(found.model)
    inside = {id(module) for module in layers.modules()}
    quantised = {f"{name}.weight" for name in stock.linear_names(found.model, layers)}
    for name, module in found.model.named_modules():
        if id(module) in inside:
            quantised |= {f"{name}.{own}" for own in stock.stacked(name, module)}
    matrices = rest = 0
    for name, parameter in found.model.named_parameters():
        if name in quantised:
            matrices += parameter.numel()
        else:
            rest += parameter.numel()
    return matrices, rest - _unused_head(found)


def _unused_head(found: Candidate) -> int:
    """The language-model head, which `classify` replaces, unless it is the embedding, too."""
    head, embedding = found.model.get_output_embeddings(), found.model.get_input_embeddings()
    if found.params.train.objective == "sft" or head is None or head.weight is embedding.weight:
        return 0
    return head.weight.numel()


def _memory() -> tuple[str, int]:
    """Where a base would lie, and the bytes there."""
    count = torch.cuda.device_count()
    gpus = [torch.cuda.get_device_properties(i).total_memory for i in range(count)]
    if gpus and os.environ.get("SHARD") == "1":
        return f"the {count} GPUs here together have", sum(gpus)
    if gpus:
        return "the largest GPU here has", max(gpus)
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return "this machine, which has no GPU, has", ram
