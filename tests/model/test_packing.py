"""Packed rows hold every example once, whole, and change nothing that a model computes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stages.config.params import Quantization
from stages.model.build import build
from stages.model.packed import logits
from stages.model.packing import Grid, pack, plan, share
from stages.training.gates.probe import probing

CPU = torch.device("cpu")


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(60, 200))
def test_every_example_stands_once_and_whole_in_a_row_within_the_budget(lengths, budget):
    examples = [[i] * n for i, n in enumerate(lengths)]
    seen = {}
    for row in pack(examples, budget):
        assert row.input_ids.shape == row.position_ids.shape
        assert row.input_ids.shape[1] <= budget
        start = 0
        for i, end in zip(row.index, row.bounds[1:].tolist(), strict=True):
            seen[i] = row.input_ids[0, start:end].tolist()
            assert row.position_ids[0, start:end].tolist() == list(range(lengths[i]))
            start = end
        assert start == row.input_ids.shape[1]
    assert seen == dict(enumerate(examples))


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 8))
def test_rows_of_a_grid_have_few_shapes_and_the_same_examples(lengths, most):
    examples = [[i + 1] * n for i, n in enumerate(lengths)]
    seen = {}
    for row in pack(examples, 128, Grid(step=32, most=most, longest=60)):
        assert row.input_ids.shape[1] % 32 == 0 and sum(row.lengths) == row.input_ids.shape[1]
        assert len(row.index) <= most and row.bounds.shape == (most + 2,)
        bounds = row.bounds.tolist()
        assert bounds == sorted(bounds) and bounds[-1] == row.input_ids.shape[1]
        for place, i in enumerate(row.index):
            seen[i] = row.input_ids[0, bounds[place] : bounds[place + 1]].tolist()
    assert seen == dict(enumerate(examples))


@given(st.lists(st.integers(1, 512), min_size=1, max_size=64))
def test_rows_are_few_and_about_as_long(lengths):
    sizes = [row.input_ids.shape[1] for row in pack([[1] * n for n in lengths], 1024)]
    assert len(sizes) <= 2 * sum(lengths) // 1024 + 1
    assert max(sizes) - min(sizes) <= max(lengths)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gemma3", "qwen2"])
@pytest.mark.parametrize("objective", ["classify", "sft"])
def test_a_packed_example_has_the_logits_it_has_alone(tiny, params, architecture, objective):
    unquantised = Quantization(type="none", double=False)
    train = params.train.model_copy(update={"quantization": unquantised, "objective": objective})
    model = build(tiny(architecture), train, CPU).eval()
    examples = [[i + 2] * (3 + 7 * i) + [5, 6] for i in range(6)]
    with probing(model), torch.no_grad():
        (packed,) = pack(examples, 1000)
        together = logits(model, packed)
        alone = [logits(model, pack([ids], 1000)[0])[0] for ids in examples]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-4, rtol=1e-4)
    assert together.std(dim=0).max() > 1e-3, "the examples must be told apart"


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_in_half_precision_a_language_model_heads_logits_are_not_rounded(tiny, params, device):
    """bfloat16 has 8 bits: logits near 16 would lie 0.125 apart, and so would probabilities."""
    update = {"objective": "sft", "dtype": "bfloat16"}
    device = torch.device(device)
    model = build(tiny("llama"), params.train.model_copy(update=update), device).eval()
    head = model.get_base_model().lm_head
    hidden = torch.randn(7, head.in_features, device=device).bfloat16().requires_grad_()
    found = head(hidden)
    exact = hidden.detach().double() @ head.weight.detach().double().T
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-5)
    row = pack([[5, 6, 7], [8, 9]], 100)[0].to(device)
    assert (logits(model, row).bfloat16().float() != logits(model, row)).any()

    head.bias = nn.Parameter(torch.randn(head.out_features, device=device).bfloat16())
    torch.testing.assert_close(head(hidden) - found, head.bias.float().expand_as(found))

    pull = torch.randn(found.shape, device=device)
    found.backward(pull)
    expected = pull.double() @ head.weight.detach().double()
    assert (hidden.grad.double() - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gemma3", "qwen2"])
def test_packed_attention_is_eager_attention(tiny, params, architecture):
    """Also where an example is longer than the sliding window of 16 tokens."""
    unquantised = Quantization(type="none", double=False)
    examples = [[i + 2] * (3 + 9 * i) + [5, 6] for i in range(5)]
    found = {}
    for attention in ("auto", "eager"):
        update = {"quantization": unquantised, "attention": attention}
        model = build(tiny(architecture), params.train.model_copy(update=update), CPU).eval()
        with probing(model):
            outputs = [logits(model, row) for row in pack(examples, 70)]
            torch.cat(outputs).square().sum().backward()
            gradient = [p.grad for p in model.parameters() if p.grad is not None]
            found[attention] = [torch.cat(outputs), *gradient]
    for ours, reference in zip(found["auto"], found["eager"], strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-4, rtol=1e-4)


def test_the_plan_shows_every_example_once_an_epoch_and_swaps_half():
    steps = plan(n=101, batch_size=8, epochs=3, swap=True, seed=1)
    assert [len(step.examples) for step in steps[:13]] == [8] * 12 + [5]
    for epoch in range(3):
        shown = [i for step in steps[13 * epoch : 13 * (epoch + 1)] for i in step.examples]
        assert sorted(shown) == list(range(101))
    swapped = [s for step in steps for s in step.swapped]
    assert 0.4 < sum(swapped) / len(swapped) < 0.6
    assert steps == plan(n=101, batch_size=8, epochs=3, swap=True, seed=1)
    assert steps != plan(n=101, batch_size=8, epochs=3, swap=True, seed=2)


@given(st.lists(st.integers(1, 2048), min_size=8, max_size=32), st.integers(1, 4))
def test_processes_share_a_batch_without_loss_and_with_balanced_tokens(lengths, world):
    parts = [share(lengths, rank, world) for rank in range(world)]
    assert sorted(i for part in parts for i in part) == list(range(len(lengths)))
    tokens = [sum(lengths[i] for i in part) for part in parts]
    assert max(tokens) - min(tokens) <= max(lengths)
