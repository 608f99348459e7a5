"""Votes that say probabilities, votes that count more, and votes that are only trained on."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from stages.config.errors import UserError
from stages.config.teacher import Teacher
from stages.counting import offset
from stages.counting.features import count_features
from stages.model.build import build
from stages.model.examples import Examples, tokenize
from stages.model.objective import Objective
from stages.model.packing import Step
from stages.model.passes import Compute, accumulate
from stages.model.prompts import Template, answer_ids
from stages.training import beside, fold, soft_targets
from stages.training.gates.probe import probing, token_ids
from stages.training.trainer import PackedTrainer
from stages.votes.labels import TARGETS, targets_of, with_classes
from tests.support.votes import make_votes, with_votes

CPU = torch.device("cpu")
N = 6


def soft(battles: pd.DataFrame, classes: int) -> pd.DataFrame:
    """Battles whose votes say probabilities and count 1, 2, 3 and so on."""
    targets = np.random.default_rng(0).dirichlet(np.ones(classes), size=len(battles))
    columns = dict(zip(TARGETS, np.pad(targets, ((0, 0), (0, 3 - classes))).T, strict=True))
    return with_classes(battles.assign(**columns, weight=np.arange(len(battles)) + 1.0))


class Tiny:
    """A tiny model of one objective, and a few examples of soft votes."""

    def __init__(self, tiny, tokenizer, battles, params, objective: str, classes: int) -> None:
        answers = answer_ids(tokenizer, classes=classes) if objective == "sft" else None
        self.params = params.model_copy(
            update={"train": params.train.model_copy(update={"objective": objective})}
        )
        self.compute = Compute(Objective(answers, classes), CPU, torch.float32, 256)
        self.model = build(tiny(), self.params.train, CPU, classes)
        template = Template(tokenizer, 128, params.prompt, classes)
        added = np.random.default_rng(1).normal(size=(N, classes)).astype(np.float32)
        self.examples = tokenize(soft(battles[:N], classes), template, added)

    @property
    def trained(self) -> list[torch.Tensor]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def loss(self, ids, targets, weights, added) -> torch.Tensor:
        """The mean cross-entropy by weight, in PyTorch's words, each example computed alone."""
        losses = []
        for tokens, target, offsets in zip(ids, targets, added, strict=True):
            (row,) = self.compute.rows([tokens])
            logits = self.compute.logits(self.model, row)[0]
            places = list(self.compute.objective.answers or range(len(target)))
            whole = torch.zeros(2, len(logits))  # the target and the offset of each logit
            whole[:, places] = torch.from_numpy(np.array([target, offsets]))
            losses.append(torch.nn.functional.cross_entropy(logits + whole[1], whole[0]))
        weights = torch.tensor(weights, dtype=torch.float32)
        return (torch.stack(losses) * weights).sum() / weights.sum()


@pytest.fixture
def make(tiny, tiny_tokenizer, battles, params):
    return partial(Tiny, tiny, tiny_tokenizer, battles, params)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("objective", ["classify", "sft"])
@pytest.mark.parametrize("budget", [1, 10**9], ids=["a row each", "one row"])
def test_the_gradient_is_that_of_the_mean_cross_entropy_by_weight(make, objective, classes, budget):
    made = make(objective, classes)
    examples, ids = made.examples, token_ids(made.examples)
    compute = replace(made.compute, token_budget=budget)
    with probing(made.model):
        loss = made.loss(ids, examples.targets, examples.weights, examples.offsets)
        expected = torch.autograd.grad(loss, made.trained)
        found = accumulate(
            made.model,
            ids,
            examples.targets,
            compute,
            torch.Tensor.backward,
            examples.weights / examples.weights.sum(),
            examples.offsets,
        )
        torch.testing.assert_close(found, loss.detach())
        for parameter, gradient in zip(made.trained, expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_step_counts_its_battles_by_weight_and_as_they_are_shown(make, tmp_path, classes):
    made = make("classify", classes)
    examples, chosen, swapped = made.examples, [4, 0, 3], [True, False, True]
    order = [1, 0, 2][:classes]
    targets, added = (
        np.array([row[order] if swap else row for row, swap in zip(rows, swapped, strict=True)])
        for rows in (examples.targets[chosen], examples.offsets[chosen])
    )
    ids = [examples.encode(i, swap).ids for i, swap in zip(chosen, swapped, strict=True)]
    given = (made.model, examples, examples, made.compute, made.params, tmp_path)
    trainer = PackedTrainer(*given)
    with probing(made.model):
        loss = made.loss(ids, targets, [5, 1, 4], added)
        expected = torch.autograd.grad(loss, made.trained)
        found = trainer.training_step(made.model, Step(chosen, swapped))
        torch.testing.assert_close(found, loss.detach())
        for parameter, gradient in zip(made.trained, expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_exchanged_answers_exchange_what_the_vote_gives_them(make, classes):
    examples: Examples = make("classify", classes).examples
    for i in range(N):
        a, b, *tie = examples.target(i)
        assert examples.target(i, swapped=True).tolist() == [b, a, *tie]
    assert examples.subset([3]).target(0).tolist() == examples.target(3).tolist()
    assert examples.subset([3]).weights.tolist() == [4]


# Only trained on


def test_ties_of_votes_that_are_only_trained_on_go_to_a_and_b_in_halves():
    votes = with_votes(pd.DataFrame(index=range(4)), [0, 1, 2, 2])
    votes.loc[3, list(TARGETS)] = [0.5, 0.2, 0.3]
    found = with_classes(votes, pd.Series([True, True, False, False]))
    assert "target_tie" not in found
    assert found.target_a.tolist() == pytest.approx([1, 0, 0.5, 0.65])
    assert found.target_b.tolist() == pytest.approx([0, 1, 0.5, 0.35])
    kept = with_classes(votes, pd.Series([True, True, False, True]))
    pd.testing.assert_frame_equal(kept, votes)


def test_votes_that_are_only_trained_on_join_but_for_those_that_share_a_held_out_prompt(capsys):
    battles = pd.DataFrame(
        {"id": list("abcdef"), "group": list("xyzxyw"), "fold": [0, 1, 1] + [-1] * 3}
    )
    training, held_out = beside.parts(battles, 0)
    assert held_out.id.tolist() == ["a"] and training.id.tolist() == ["b", "c", "e", "f"]
    assert "2 votes are only trained on; 1 share a held-out prompt" in capsys.readouterr().out
    training, held_out = beside.parts(battles, 1)
    assert held_out.id.tolist() == ["b", "c"] and training.id.tolist() == ["a", "d", "f"]


def test_class_shares_of_another_source_are_not_learned():
    own = make_votes(40, 0.0).assign(fold=0)
    labels = np.repeat([0, 1, 2], [24, 12, 4])
    own = with_votes(own, labels)
    other = with_votes(own, np.zeros(40, int)).assign(fold=-1, source="other", weight=0.5)
    other["training_only"] = True
    found = beside.offsets(pd.concat([own, other], ignore_index=True))
    assert (found[:40] == 0).all()
    mine, theirs = np.array([25, 13, 5]) / 43, np.array([21, 1, 1]) / 23
    assert found[40:] == pytest.approx(np.tile(np.log(theirs / mine), (40, 1)), abs=1e-6)


def test_votes_reserved_for_tuning_are_trained_on_as_the_folds_own():
    folds = make_votes(40, 0.0).assign(fold=0, group="fold")
    reserved = with_votes(folds[:8], [0] * 8).assign(fold=-1, group="reserved")
    battles = pd.concat([folds, reserved], ignore_index=True)
    training, held_out = beside.parts(battles.assign(fold=[1] * 20 + [0] * 20 + [-1] * 8), 1)
    assert len(training) == 20 + 8 and len(held_out) == 20
    assert (beside.offsets(battles) == 0).all()


def test_an_offset_is_fitted_on_the_folds_own_votes_and_given_to_those_beside_them(
    tiny_tokenizer, params
):
    votes = make_votes(160, 1.0).assign(fold=np.repeat([1, 0, -1], [120, 20, 20]))
    votes["group"] = votes.id
    votes.loc[votes.fold < 0, ["source", "training_only"]] = ["other", True]
    training, held_out = votes[votes.fold != 0], votes[votes.fold == 0]
    template = Template(tiny_tokenizer, 128, params.prompt)
    examples, validation, fitted = fold._read(training, held_out, template, with_offset=True)
    mine = training.fold == 1
    alone, own, unseen = offset.fold_offsets(training[mine], held_out)
    pd.testing.assert_frame_equal(fitted.weights, alone.weights)
    assert examples.offsets[mine] == pytest.approx(own, abs=1e-6)
    assert validation.offsets == pytest.approx(unseen, abs=1e-6)
    theirs = training[~mine]
    expected = alone.of(count_features(theirs)) + beside.offsets(training)[~mine]
    assert examples.offsets[~mine] == pytest.approx(expected, abs=1e-6)


def test_what_a_teacher_says_of_pairs_has_no_offset_and_votes_alone_are_counted():
    own = make_votes(40, 0.0).assign(fold=0, group="g")
    lessons = own[:4].assign(id=list("wxyz"), source="pairs", group="h", system=None)
    says = dict(zip(soft_targets.SAYS, (0.8, 0.1, 0.1), strict=True))
    lessons = lessons.assign(**says)[list(soft_targets.LESSON)]
    both = soft_targets.taught(own, own[:0], lessons, Teacher(temperature=2.0))
    assert len(both) == 44 and (both.fold[40:] == -1).all()
    roots = np.sqrt([0.8, 0.1, 0.1])
    assert targets_of(both)[40:] == pytest.approx(np.tile(roots / roots.sum(), (4, 1)))
    assert (beside.offsets(both) == 0).all()
    assert (targets_of(soft_targets.votes_alone(both[:40])) == targets_of(own)).all()
    with pytest.raises(UserError, match="no lesson on a held-out vote, found 1, such as w"):
        soft_targets.taught(own, lessons[:1], lessons, Teacher())
