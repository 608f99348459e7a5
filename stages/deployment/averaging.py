"""The mean of several adapters as one adapter.

What an adapter adds to a matrix is the product of its factors, scaling B A, so the mean is that of
the products. The mean of the factors is something else: B1 A2 would be part of its product. The
mean of k products of rank r has rank k r; it is cut back to r, which keeps as much of it as r can.

Source: Wortsman et al. 2022, Model soups (weights of fine-tuned models averaged); Eckart and Young
1936 (the cut).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

A, B = "lora_A.weight", "lora_B.weight"  # how PEFT's names of the factors end


def average(adapters: Sequence[Mapping[str, Tensor]], rank: int) -> tuple[dict[str, Tensor], float]:
    """The mean of adapters on one base, and of their heads.

    Args:
        adapters: as PEFT saves them: by name A (r, in) and B (out, r), or of E experts that lie in
            one parameter (E r, in) and (out, r E); and the head, if one is trained.
        rank: of each module of the adapters, and of their mean.

    Returns:
        The mean in the same layout, and how much of the products' squared norm the cut has kept.
    """
    mean = {name: _mean([each[name] for each in adapters]) for name in adapters[0]}
    kept = whole = 0.0
    for name in [name for name in mean if name.endswith(A)]:
        partner = name.removesuffix(A) + B
        pairs = [_by_expert(each[name], each[partner], rank) for each in adapters]
        a, b, values = cut([a for a, _ in pairs], [b for _, b in pairs], rank)
        mean[name] = a.flatten(0, 1).float().contiguous()
        mean[partner] = b.permute(1, 2, 0).flatten(1).float().contiguous()
        kept += values[:, :rank].square().sum().item()
        whole += values.square().sum().item()
    return mean, kept / whole if whole else 1.0


def cut(a: Sequence[Tensor], b: Sequence[Tensor], rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of the products b a, cut to a rank; no product is ever formed.

    The stacked factors are brought to triangles by QR, whose small product has the singular values
    of the mean.

    Args:
        a: (E, r, in) each.
        b: (E, out, r) each.

    Returns:
        Its factors (E, rank, in) and (E, out, rank), and all singular values (E, k r).
    """
    left, left_triangle = torch.linalg.qr(torch.cat(list(b), dim=-1).double() / len(b))
    right, right_triangle = torch.linalg.qr(torch.cat(list(a), dim=-2).double().mT)
    u, values, v = torch.linalg.svd(left_triangle @ right_triangle.mT, full_matrices=False)
    root = values[:, None, :rank].sqrt()
    return (right @ v.mT[..., :rank] * root).mT, left @ u[..., :rank] * root, values


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.float() for tensor in tensors]).mean(dim=0)


def _by_expert(a: Tensor, b: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The factors of each expert, (E, r, in) and (E, out, r); a linear layer is one expert."""
    experts = len(a) // rank
    return a.unflatten(0, (experts, rank)), b.unflatten(1, (rank, experts)).permute(2, 0, 1)
