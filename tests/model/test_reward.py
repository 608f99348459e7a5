"""The objective `reward`: each answer is read by itself, and both rewards make the logits."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, logsigmoid

from stages.model.build import build, build_plain
from stages.model.examples import tokenize
from stages.model.objective import Objective
from stages.model.passes import Compute, class_logits
from stages.model.prompts import template_for
from stages.training.fold import train_fold
from stages.training.gates.probe import gradient, probing, token_ids, trained
from tests.support.rows import GRID, Filled

CPU = torch.device("cpu")


@pytest.fixture
def reward(params):
    longer = {"max_tokens": 256, "token_budget": 512}
    scales = {params.scale: params.budget.model_copy(update=longer)}
    train = params.train.model_copy(update={"objective": "reward"})
    return params.model_copy(update={"train": train, "scales": scales})


@pytest.fixture
def examples(battles, reward, tiny_tokenizer):
    return tokenize(battles[:5], template_for(tiny_tokenizer, reward, 3))


def compute(classes: int = 3, **options) -> Compute:
    return Compute(Objective(classes=classes, alone=True), CPU, torch.float32, 256, **options)


def test_each_answer_is_read_by_itself_after_its_own_turns(examples, tiny_tokenizer):
    first, second = map(tiny_tokenizer.decode, examples.encode(1).texts)
    turns = [f"\n\nUser: question 1 turn {i}\n\nAnswer: a bad answer 1" for i in (0, 1)]
    assert first == f"<s>{turns[0]}{turns[1]}\n\nThe quality of the answer:"
    assert "Answer: a good reply 1" in second and "a bad answer" not in second
    assert examples.encode(1, swapped=True).texts == examples.encode(1).texts[::-1]


def test_a_battle_that_is_too_long_has_half_of_the_tokens_for_each_answer(
    battles, reward, tiny_tokenizer
):
    long = battles[:1].assign(
        response_a=[["yes " * 400]], response_b=[["no"]], prompt=[["why " * 200]]
    )
    encoded = tokenize(long, template_for(tiny_tokenizer, reward, 3)).encode(0)
    assert 120 < len(encoded.texts[0]) <= 128 and encoded.dropped > 0
    assert len(encoded) <= 256


def test_logits_are_what_the_head_says_of_each_answer(tiny, examples, reward):
    model = build(tiny(), reward.train, CPU, outputs=2)
    stock = build_plain(tiny(), reward.train, CPU, outputs=2)
    with probing(model), probing(stock), torch.no_grad():
        found = class_logits(model, token_ids(examples), compute())
        for i in range(len(examples)):
            scores = []
            for ids in examples.encode(i).texts:
                base = stock.get_base_model()
                hidden = base.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
                scores.append(base.score(hidden))
            a, b = scores
            expected = torch.stack([a[0], b[0], a[1] + b[1]])
            torch.testing.assert_close(found[i], expected, rtol=1e-3, atol=1e-5)


def test_exchanging_the_answers_exchanges_the_logits_to_the_bit(tiny, examples, reward):
    model = build(tiny(), reward.train, CPU, outputs=2)
    exchanged = [text for i in range(5) for text in examples.encode(i, swapped=True).texts]
    alone = Compute(Objective(alone=True), CPU, torch.float32, 1)
    with probing(model):
        ab = class_logits(model, token_ids(examples), alone)
        ba = class_logits(model, exchanged, alone)
    torch.testing.assert_close(ba[:, [1, 0, 2]], ab, rtol=1e-5, atol=1e-7)
    assert (ab[:, 0] != ab[:, 1]).any()


@pytest.mark.parametrize("budget", [1, 90, 10_000])
@pytest.mark.parametrize("way", ["fast", "plain"])
def test_the_gradient_is_that_of_the_mean_loss_however_texts_are_packed(
    tiny, examples, reward, budget, way
):
    put = build if way == "fast" else build_plain
    model = put(tiny(), reward.train, CPU, outputs=2)
    how = Compute(Objective(alone=True), CPU, torch.float32, budget, way=way)
    with probing(model):
        found = gradient(model, token_ids(examples), examples.targets, how)
        model.zero_grad(set_to_none=True)
        base = model.get_base_model()
        logits = []
        for i in range(len(examples)):
            a, b = (one_score(model, base, ids, how) for ids in examples.encode(i).texts)
            logits.append(torch.stack([a[0], b[0], a[1] + b[1]]))
        cross_entropy(torch.stack(logits), torch.from_numpy(examples.targets)).backward()
        expected = torch.cat([p.grad.flatten() for p in trained(model)])
    assert (found - expected).norm() < 1e-3 * expected.norm()


def one_score(model, base, ids, how) -> torch.Tensor:
    [row] = Compute(Objective(), CPU, torch.float32, 10_000, way=how.way).rows([ids])
    return how.logits(model, row)[0]


def test_rows_that_are_filled_up_give_the_same(tiny, examples, reward):
    model = build(tiny(), reward.train, CPU, outputs=2)
    assert GRID.most % 2 == 1, "a row may end in half a pair"
    with probing(model):
        plain = class_logits(model, token_ids(examples), compute())
        filled = class_logits(model, token_ids(examples), compute(recorder=Filled()))
    torch.testing.assert_close(filled, plain, rtol=1e-4, atol=1e-6)


def test_without_ties_the_loss_is_that_of_bradley_and_terry():
    """As TRL's RewardTrainer has it: -log sigmoid of the chosen reward less the rejected one."""
    rewards = torch.randn(8, 1, generator=torch.Generator().manual_seed(0))
    chosen, rejected = rewards[0::2, 0], rewards[1::2, 0]
    targets = torch.tensor([[1.0, 0.0]] * 4)
    found = Objective(classes=2, alone=True).loss(rewards, targets, torch.zeros(4, 2))
    torch.testing.assert_close(found, -logsigmoid(chosen - rejected))


@pytest.mark.parametrize("way", ["fast", "plain"])
def test_a_fold_trains_and_both_orders_are_one(tiny, battles, reward, tmp_path, way):
    train = reward.train.model_copy(update={"way": way})
    battles = battles.assign(group=battles.id, fold=[i % 3 for i in range(24)], source="made")
    found = train_fold(
        tiny(),
        battles[battles.fold > 0],
        battles[battles.fold == 0],
        reward.model_copy(update={"train": train}),
        tmp_path,
    )
    assert found.summary["way"] == way and found.summary["classes"] == 3
    ab, ba = (
        found.predictions[[f"{order}_{name}" for name in ("a", "b", "tie")]].to_numpy()
        for order in ("ab", "ba")
    )
    assert np.isfinite(ab).all() and (ab == ba).all() and (ab[:, 0] != ab[:, 1]).any()
    assert found.model.get_base_model().score.out_features == 2
