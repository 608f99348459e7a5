"""Rows filled up to few shapes, and passes recorded over them, compute what plain ones do."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stages.config.errors import UserError
from stages.config.params import Lora, Train
from stages.model import graphs
from stages.model.attention import VARLEN
from stages.model.build import build
from stages.model.graphs import Recorder
from stages.model.layers import compile_layers, decoder_layers, recompute
from stages.model.objective import Objective
from stages.model.passes import Compute, accumulate, class_logits
from stages.training.fast import records
from stages.training.gates.probe import probing
from tests.support.rows import GRID, Filled

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ARCHITECTURES = ["llama", "gemma2", "gemma3", "qwen2"]
OBJECTIVES = {"classify": Objective(), "sft": Objective((40, 41, 42))}
TARGETS = np.eye(3)[[i % 3 for i in range(8)]]
OFFSETS = np.linspace(-0.02, 0.02, 24, dtype=np.float32).reshape(8, 3)


def batch(seed: int) -> list[list[int]]:
    """Examples of 3 to 60 tokens, most batches of another sum."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(3, 60, (8,), generator=generator).tolist()
    return [torch.randint(2, 200, (n,), generator=generator).tolist() for n in sizes]


def step(model, ids, compute) -> list[torch.Tensor]:
    """Loss and gradients of one batch, and its class logits."""
    model.train()
    model.zero_grad(set_to_none=True)
    targets, offsets = TARGETS[: len(ids)], OFFSETS[: len(ids)] * len(ids[0])
    loss = accumulate(model, ids, targets, compute, torch.Tensor.backward, offsets=offsets)
    gradients = [p.grad.clone() for p in model.parameters() if p.requires_grad]
    model.eval()
    return [loss, *gradients, class_logits(model, ids, compute)]


@pytest.mark.parametrize(
    ("budget", "training_tokens", "step"),
    [
        (12_288, 5_900_000, 512),  # 2,471 votes of 1,024 tokens at most, three epochs
        (12_288, 140_000_000, 128),  # 57,477 votes
        (6_144, 5_900_000, 128),
        (12_288, 50_000, 512),  # never coarser: rows would be filled up by too much
        (1_024, 50_000, 128),
    ],
)
def test_a_short_training_records_fewer_shapes(budget, training_tokens, step):
    grid = graphs.grid(budget, 1_024, 1, training_tokens)
    assert grid.step == step and grid.longest == 1_024
    assert graphs.grid(budget, 1_024).step == 128, "as for the longest training"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_fills_a_row_changes_nothing(tiny, params, architecture, objective):
    train = params.train.model_copy(update={"objective": objective})
    model = build(tiny(architecture), train, CPU)
    compute = Compute(OBJECTIVES[objective], CPU, torch.float32, 192)
    with probing(model):
        plain = step(model, batch(0), compute)
        filled = step(model, batch(0), replace(compute, recorder=Filled()))
    for found, expected in zip(filled, plain, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_where_passes_cannot_be_recorded_they_are_not_and_asking_for_it_says_why(tiny, params):
    model = build(tiny(), params.train, CPU)
    assert not records(model, "auto") and not records(model, False)
    with pytest.raises(UserError, match=r"train\.cuda_graphs is true, but there is no GPU: set it"):
        records(model, True)


class OnGpu:
    """A model that says it is on a GPU, with attention that can be recorded."""

    def __init__(self, model) -> None:
        self.found_layers = (decoder_layers(model),)
        self.config = SimpleNamespace(_attn_implementation=VARLEN)

    def parameters(self):
        return iter([SimpleNamespace(device=CUDA)])

    def modules(self):
        return iter(())


@pytest.mark.parametrize("rank", [1, 64])
def test_passes_of_any_rank_are_recorded_and_one_line_says_that_those_with_dropout_are_not(
    tiny, params, rank, capsys
):
    for dropout in (0.0, 0.1):
        lora = Lora(r=rank, alpha=8, dropout=dropout, targets="all-linear")
        model = build(tiny(), params.train.model_copy(update={"lora": lora}), CPU)
        assert records(OnGpu(model), "auto") == (dropout == 0)
    assert capsys.readouterr().out.splitlines() == [
        "passes are not recorded as CUDA graphs, which is slower: it has dropout"
    ]
    with pytest.raises(UserError, match="cuda_graphs is true, but it has dropout: set it to auto"):
        records(OnGpu(model), True)
    assert not records(OnGpu(model), False) and not capsys.readouterr().out


def test_gradients_are_where_recorded_passes_add_to_them(tiny, params, monkeypatch):
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", tuple)
    model = build(tiny(), params.train, CPU)
    recorder = Recorder(model, GRID)
    first, second, *others = [p for p in model.parameters() if p.requires_grad]
    recorder.hold_gradients()
    own = [p.grad for p in (first, second, *others)]
    own[0] += 1
    own[1] += 1
    first.grad, second.grad = None, torch.full_like(second, 7)  # as after a step; of a plain pass
    recorder.hold_gradients()
    assert all(p.grad is held for p, held in zip((first, second, *others), own, strict=True))
    assert not first.grad.any() and (second.grad == 7).all()


def on_gpu(params, **changes: object) -> Train:
    return params.train.model_copy(update={"dtype": "bfloat16", **changes})


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("recomputed", [0, 1])
def test_on_a_gpu_recorded_passes_compute_what_plain_ones_do(
    tiny, params, architecture, objective, recomputed
):
    model = build(tiny(architecture), on_gpu(params, objective=objective), CUDA)
    compile_layers(model)
    recompute(model, recomputed)
    compute = Compute(OBJECTIVES[objective], CUDA, torch.bfloat16, 192)
    recorder = Recorder(model, GRID)
    recorded = replace(compute, recorder=recorder)
    with probing(model):
        for seed in (0, 1, 0, 2, 0, 1, 2):  # plain, recorded and replayed, in turns
            plain = step(model, batch(seed), compute)
            found = step(model, batch(seed), recorded)
            torch.testing.assert_close(found[0].cpu(), plain[0].cpu(), atol=1e-2, rtol=1e-2)
            torch.testing.assert_close(found[-1], plain[-1], atol=5e-2, rtol=5e-2)
            together = [torch.cat([g.flatten() for g in each[1:-1]]) for each in (found, plain)]
            assert (together[0] - together[1]).norm() / together[1].norm() < 5e-2
    assert len(recorder._recordings) >= 4, "with and without gradients, of several lengths"
    assert recorder.stop() and not recorder.stop()
    with probing(model):
        assert torch.isfinite(step(model, batch(0), recorded)[0]) and not recorder._recordings


@pytest.mark.gpu
def test_on_a_gpu_gradients_left_by_a_plain_pass_are_not_written_to_later(tiny, params):
    model = build(tiny(), on_gpu(params), CUDA)
    compute = Compute(OBJECTIVES["classify"], CUDA, torch.bfloat16, 192)
    recorded = replace(compute, recorder=Recorder(model, GRID))
    ids = batch(0)
    with probing(model):
        accumulate(model, ids, TARGETS, compute, torch.Tensor.backward)  # leaves its gradients
        once = [p.grad.clone() for p in model.parameters() if p.requires_grad]
        left = [p.grad for p in model.parameters() if p.requires_grad]
        for times in (2, 3, 4):  # plain, recorded, replayed
            accumulate(model, ids, TARGETS, recorded, torch.Tensor.backward)
            found = [p.grad for p in model.parameters() if p.requires_grad]
            together = [torch.cat([g.flatten() for g in each]) for each in (found, once)]
            torch.testing.assert_close(together[0], times * together[1], atol=1e-2, rtol=5e-2)
    for old, first in zip(left, once, strict=True):
        torch.testing.assert_close(old, first)


@pytest.mark.gpu
def test_on_a_gpu_what_cannot_be_recorded_is_named(tiny, params):
    assert graphs.unfit(build(tiny(), on_gpu(params), CUDA)) is None
    plain = build(tiny(), on_gpu(params, dtype="float32"), CUDA)
    assert "its attention, packed" in graphs.unfit(plain)
    lora = Lora(r=4, alpha=8, dropout=0.1, targets="all-linear")
    assert graphs.unfit(build(tiny(), on_gpu(params, lora=lora), CUDA)) == "it has dropout"
