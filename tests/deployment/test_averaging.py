"""The mean of adapters: of their products, cut to the rank with as little lost as can be."""

import pytest
import torch

from stages.deployment.averaging import average, cut

RANK, IN, OUT = 3, 11, 7


def adapter(seed: int, experts: int = 1) -> dict[str, torch.Tensor]:
    """As PEFT saves one: of a linear layer, or of experts in one parameter; and a head."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "layer.lora_A.weight": torch.randn(experts * RANK, IN, generator=generator),
        "layer.lora_B.weight": torch.randn(OUT, RANK * experts, generator=generator),
        "score.weight": torch.randn(3, IN, generator=generator),
    }


def products(adapter: dict[str, torch.Tensor], experts: int = 1) -> torch.Tensor:
    """(E, out, in), as PEFT's ParamWrapper.get_delta_weight multiplies them."""
    a = adapter["layer.lora_A.weight"].double()
    b = adapter["layer.lora_B.weight"].double()
    a = a.reshape(experts, -1, IN)
    return torch.einsum("o r e, e r i -> e o i", b.reshape(OUT, -1, experts), a)


def one_expert(adapter: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return adapter["layer.lora_A.weight"][None], adapter["layer.lora_B.weight"][None]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_with_the_rank_of_all_together_the_mean_is_exact(count):
    pairs = [one_expert(adapter(seed)) for seed in range(count)]
    a, b, _ = cut([a for a, _ in pairs], [b for _, b in pairs], count * RANK)
    mean = sum(b.double() @ a.double() for a, b in pairs) / count
    torch.testing.assert_close(b @ a, mean, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("experts", [1, 4])
def test_the_cut_loses_what_the_best_approximation_loses(experts):
    adapters = [adapter(seed, experts) for seed in range(2)]
    mean = sum(products(each, experts) for each in adapters) / 2
    values = torch.linalg.svdvals(mean)
    found, kept = average(adapters, RANK)
    assert {name: tensor.shape for name, tensor in found.items()} == {
        name: tensor.shape for name, tensor in adapters[0].items()
    }
    lost = (products(found, experts) - mean).square().sum()
    assert lost.item() == pytest.approx(values[:, RANK:].square().sum().item(), rel=1e-4)
    assert kept == pytest.approx(1 - (lost / mean.square().sum()).item(), rel=1e-4)
    torch.testing.assert_close(
        found["score.weight"], (adapters[0]["score.weight"] + adapters[1]["score.weight"]) / 2
    )


def test_one_adapter_is_its_own_mean():
    found, kept = average([adapter(0)], RANK)
    torch.testing.assert_close(products(found), products(adapter(0)), rtol=1e-5, atol=1e-5)
    assert kept == pytest.approx(1)
