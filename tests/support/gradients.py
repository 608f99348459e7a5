"""Logits and gradients of a packed row, and how far two of them lie apart."""

import torch

from stages.model.packed import logits
from stages.model.packing import pack

EXAMPLES = [[i + 2] * (3 + 9 * i) + [5, 6] for i in range(5)]


def gradients(model, autocast=False):
    model.zero_grad()
    (row,) = pack(EXAMPLES, 1000)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = logits(model, row.to(next(model.parameters()).device))
    out.square().sum().backward()
    named = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    return {"logits": out.detach(), **named}


def relative(found, reference):
    return max(((found[n] - reference[n]).norm() / reference[n].norm()).item() for n in reference)
