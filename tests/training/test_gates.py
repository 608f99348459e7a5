"""Each known reason why a run stays at the class prior, planted, and the gate that it meets."""

import itertools
from dataclasses import replace
from types import MethodType

import bitsandbytes as bnb
import numpy as np
import peft
import pytest
import torch
from torch import nn

from stages.config.errors import UserError
from stages.model import build as model
from stages.model import packed
from stages.model.attention import segments
from stages.model.build import build
from stages.model.examples import Examples
from stages.model.head import adapter_parameters, head
from stages.model.layers import decoder_layers
from stages.model.objective import Objective
from stages.model.passes import Compute
from stages.model.prompts import Encoded, Template
from stages.training import fast
from stages.training.gates import model as built
from stages.training.gates import order, probe
from stages.training.gates.gate import GateFailed, table
from tests.support.places import REPO
from tests.support.rows import Filled
from tests.support.setting import Setting

CPU = torch.device("cpu")


@pytest.fixture
def setting(tiny, battles, params) -> Setting:
    return Setting(tiny(), battles, params)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gemma3", "qwen2"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sound_run_passes(tiny, battles, params, architecture, dtype):
    train = params.train.model_copy(update={"dtype": dtype})
    setting = Setting(tiny(architecture), battles, params.model_copy(update={"train": train}))
    setting.compute = Compute(Objective(), CPU, getattr(torch, dtype), 256)
    assert setting.failed() == set()


def test_gates_leave_the_model_as_they_found_it(setting):
    before = {n: p.detach().clone() for n, p in setting.model.named_parameters()}
    assert setting.failed() == set()
    for name, parameter in setting.model.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert parameter.grad is None


def whole_last_layer(base):
    """Let the last layer return every token, as it came."""
    layer = decoder_layers(base)[-1]
    layer.inner_forward = MethodType(type(layer).forward, layer)


def pool_where(setting, position):
    """Plant a head that reads the token at position(ids) of each example."""
    base = setting.base
    whole_last_layer(base)

    def forward(input_ids, position_ids, lengths, longest, bounds, **_):
        hidden = base.base_model(
            input_ids=input_ids,
            position_ids=position_ids,
            use_cache=False,
            segments=segments(lengths, longest, bounds, base.config),
        ).last_hidden_state[0]
        ends = itertools.pairwise(bounds)
        read = [start + position(input_ids[0, start:end]) for start, end in ends]
        return base.score(hidden[torch.stack(read)].float())

    base.forward = forward


def test_1_the_pad_token_stands_inside_the_text_and_is_pooled(setting):
    pad = setting.examples.encode(0).ids[3]
    pool_where(setting, lambda ids: (ids == pad).int().argmax() - 1)
    assert "as_transformers" in setting.failed()


def test_2_a_padded_position_is_pooled(setting):
    base, pad = setting.base, 1
    whole_last_layer(base)

    def forward(input_ids, position_ids, lengths, longest, bounds, **_):
        parts = input_ids[0].split(lengths)
        padded = nn.utils.rnn.pad_sequence([*parts, torch.full((200,), pad)], True, pad)[:-1]
        rows = [base.base_model(input_ids=row[None], use_cache=False) for row in padded]
        hidden = torch.cat([row.last_hidden_state for row in rows])
        return base.score(hidden[:, -1].float())

    base.forward = forward
    assert "as_transformers" in setting.failed()


def test_3_the_head_starts_at_random(setting):
    nn.init.normal_(head(setting.model).weight, std=1.0)
    assert setting.failed() == {"first_loss"}


@pytest.mark.parametrize("trained", [False, True])
def test_4_the_head_is_not_saved(setting, monkeypatch, trained):
    whole = model._lora

    def headless(*given):
        config = whole(*given)
        config.task_type, config.modules_to_save = peft.TaskType.FEATURE_EXTRACTION, None
        return config

    monkeypatch.setattr(model, "_lora", headless)
    setting.load(setting.params.train)
    setting.base.score.weight.requires_grad_(trained)
    assert setting.failed() >= ({"reload"} if trained else {"head"})


def test_5_the_head_is_quantised(setting):
    quantised = bnb.nn.Linear4bit(32, 3, bias=False, compute_dtype=torch.float32).to(CPU)
    setting.base.score.modules_to_save["default"] = quantised
    assert "head" in setting.failed()


def test_the_head_for_words_has_no_weights_for_an_answer(tiny, params):
    train = params.train.model_copy(update={"objective": "sft"})
    loaded = model.build_plain(tiny(), train, CPU)
    compute = Compute(Objective(answers=[5, 6, 7]), CPU, torch.float32, 256)

    def failed() -> set[str]:
        outcomes = built.BUILT.outcomes(loaded, compute, params.quantised)
        return {gate.name for gate in outcomes if not gate.passed}

    assert failed() == set()
    with torch.no_grad():
        head(loaded).weight[6] = 0
    assert failed() == {"answer_rows"}


def test_6_checkpointing_without_input_gradients(setting):
    setting.base.activation_checkpointing_enable(
        activation_checkpointing_kwargs={"use_reentrant": True}
    )
    setting.base.disable_input_require_grads()
    assert setting.failed() == {"gradients"}


def test_7_the_adapter_is_in_half_precision(setting):
    for parameter in adapter_parameters(setting.model).values():
        parameter.data = parameter.data.bfloat16()
    assert "adapter_dtype" in setting.failed()


def test_7_float16_overflows(setting):
    train = setting.params.train.model_copy(update={"dtype": "float16"})
    setting.model = build(setting.checkpoint, train, CPU)
    setting.compute = Compute(Objective(), CPU, torch.float16, 256)
    for layer in setting.base.base_model.layers:
        layer.post_attention_layernorm.weight.data.fill_(6e4)
    assert "finite" in setting.failed()


@pytest.mark.parametrize("start", [[], [0, 0]], ids=["dropped", "doubled"])
def test_8_the_start_token_is_dropped_or_doubled(setting, start):
    setting.examples.template.start = start
    assert "special_tokens" in setting.failed()


def test_8_a_text_makes_a_special_token(setting):
    rounds = setting.examples.rounds[0]
    rounds[-1].prompt.append(setting.examples.template.tokenizer.eos_token_id)
    assert "special_tokens" in setting.failed()


def test_9_truncation_removes_answer_b(setting, monkeypatch):
    whole = Template.encode

    def cut(self, rounds, swapped=False):
        ids = whole(self, rounds, swapped).ids
        return Encoded(ids[:12] + self.question, dropped=len(ids) - 12)

    monkeypatch.setattr(Template, "encode", cut)
    assert {"answer_a_read", "answer_b_read"} <= setting.failed()


def test_10_the_loss_is_the_mean_of_row_means(setting, monkeypatch):
    def mean_of_rows(model_, ids, targets, compute, backward):
        for row in gates_pack(ids, compute.token_budget):
            logits, wanted = packed.logits(model_, row), torch.from_numpy(targets[row.index])
            losses = compute.objective.loss(logits, wanted, torch.zeros_like(wanted))
            backward(losses.mean())
        return losses.mean().detach()

    from stages.model.packing import pack as gates_pack

    monkeypatch.setattr(probe, "accumulate", mean_of_rows)
    assert setting.failed() == {"loss_scale"}


def test_11_gemma_2_on_a_kernel_without_soft_capping(tiny, battles, params):
    setting = Setting(tiny("gemma2"), battles, params)
    setting.model.config._attn_implementation = "sdpa"
    found = built.BUILT.outcomes(setting.model, setting.compute, params.quantised)
    assert [gate.name for gate in found if not gate.passed] == ["soft_capping"]
    with pytest.raises(UserError, match="sdpa leaves out"):
        build(tiny("gemma2"), params.train.model_copy(update={"attention": "sdpa"}), CPU)


def test_12_labels_are_permuted(setting):
    few = setting.examples
    setting.examples = replace(few, targets=np.roll(few.targets, 1, axis=1))
    assert setting.failed() == {"labels"}


def test_12_examples_are_other_battles(setting):
    setting.truth.pop(setting.examples.ids[0])
    assert setting.failed() == {"labels"}


def test_12_a_battle_to_predict_is_trained_on(setting):
    setting.held_out = setting.examples.subset([1])
    assert setting.failed() == {"held_out"}


def test_12_answers_are_swapped_without_their_labels(setting, monkeypatch):
    monkeypatch.setattr(Examples, "target", lambda self, i, swapped=False: self.targets[i])
    assert setting.failed() == {"swap"}


def test_no_pass_is_plain_once_the_longest_row_is_recorded(setting, monkeypatch):
    """Its recording may take all memory that a GPU has."""
    passes, run = [], Compute.run

    def noted(compute, work, row, *others):
        passes.append((bool(compute.recorder), row.bounds[-1].item()))
        return run(compute, work, row, *others)

    monkeypatch.setattr(Compute, "run", noted)
    recorded = replace(setting.compute, recorder=Filled())
    full_row = [[0] * 60, [0] * 60]
    (gate,) = fast.record(setting.model, setting.examples, setting.compute, recorded, full_row)
    assert gate.passed
    kinds = [recording for recording, _ in passes]
    assert kinds == sorted(kinds) and not kinds[0], "plain ones come first"
    first = kinds.index(True)
    assert [tokens for _, tokens in passes[first : first + 3]] == [128] * 3


class Stuck(Filled):
    """Replays a pass over what it was recorded with."""

    def __init__(self) -> None:
        self.given: dict[tuple, list] = {}

    def __call__(self, work, row, *others):
        calls = self.given.setdefault((torch.is_grad_enabled(), row.input_ids.shape), [])
        calls.append((row, *others))
        return super().__call__(work, *calls[min(len(calls) - 1, 1)])


def test_recorded_passes_that_read_what_they_were_recorded_with_are_found(setting):
    stuck = [replace(setting.compute, recorder=Stuck()) for _ in range(2)]
    full_row = [[0] * 60, [0] * 40]
    with pytest.raises(GateFailed, match="recorded"):
        fast.record(setting.model, setting.examples, setting.compute, stuck[0], full_row)
    texts = [setting.examples.encode(i).ids for i in range(len(setting.examples))]
    with probe.probing(setting.model):
        assert fast.record_row(setting.model, full_row, texts, stuck[1]) > 0.3, "the longest, too"


def test_a_failed_gate_says_its_value_and_the_likely_causes(setting):
    nn.init.normal_(head(setting.model).weight, std=1.0)
    with pytest.raises(GateFailed, match=r"(?s)first_loss: found .*ln 3.*random values"):
        setting.check()


def test_every_gate_is_checked_and_says_what_its_failure_means_and_what_causes_it(setting):
    passed = setting.check() + built.TRAINED.outcomes(setting.model)
    kinds = [kind for phase in order.PHASES for kind in phase.kinds]
    elsewhere = {"training_loss", "compiled", "fp8", "recorded", "exact"}
    assert {gate.name for gate in passed} | elsewhere == {kind.name for kind in kinds}
    assert all(kind.means and kind.causes for kind in kinds)


def test_the_readme_has_the_table_of_the_gates():
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    expected = table(order.PHASES)
    assert expected in readme, f"README.md lacks this table:\n{expected}"
