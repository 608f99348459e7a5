"""The offset: what length and format say of a battle, which a backbone then learns beyond."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax

from stages.config.errors import UserError
from stages.counting import offset, regression
from stages.counting.features import count_features
from stages.model.build import build
from stages.model.examples import tokenize
from stages.model.objective import Objective
from stages.model.passes import Compute, accumulate, class_logits
from stages.model.prompts import Template
from stages.training.gates.probe import probing
from stages.training.trainer import predict_together
from stages.votes.labels import LABELS, MIRRORED, votes_of, with_classes
from stages.votes.prepared import VOTE
from tests.support.votes import make_votes, with_votes

CPU = torch.device("cpu")
EXCHANGED = {"response_a": "response_b", "response_b": "response_a"}
OBJECTIVES = {"classify": Objective(), "sft": Objective((40, 41, 42))}


@pytest.fixture(scope="module")
def votes() -> pd.DataFrame:
    """Battles in which the longer answer wins more often, three to a prompt group."""
    frame = make_votes(300, effect=1.0)
    return frame.assign(group=[f"group {i // 3}" for i in range(len(frame))])


@pytest.fixture(scope="module")
def halves(votes) -> tuple[pd.DataFrame, pd.DataFrame]:
    return votes[:201], votes[201:]


@pytest.mark.parametrize("classes", [3, 2])
def test_held_out_battles_get_what_the_baseline_predicts(votes, classes):
    if classes == 2:
        dealt = np.where(votes.label == 2, np.arange(len(votes)) % 2, votes.label)
        votes = with_classes(with_votes(votes, dealt))
    halves = votes[:201], votes[201:]
    fitted, _, found = offset.fold_offsets(*halves)
    assert list(fitted.weights) == list(fitted.intercept.index) == list(LABELS[:classes])
    inputs = regression.count_inputs(count_features(votes))
    folds = (np.arange(len(votes)) < len(halves[0])).astype(int)
    cast = votes_of(votes)
    expected = regression.out_of_fold(inputs, cast, folds, regression.C_COUNTS)[folds == 0]
    assert np.abs(softmax(found, axis=1) - expected).max() < 1e-5
    assert np.abs(found.sum(axis=1)).max() < 1e-5, "one answer's logit rises as others fall"
    assert found.std() > 0.2, "it says something"


def test_no_battle_of_the_training_decides_on_its_own_offset(halves):
    training, held_out = halves
    _, before, _ = offset.fold_offsets(training, held_out)
    group = training.group == training.group.iloc[0]
    changed = with_votes(training, np.where(group, (training.label + 1) % 3, training.label))
    _, after, _ = offset.fold_offsets(changed, held_out)
    assert np.abs(after - before)[group].max() == 0
    assert np.abs(after - before)[~group].max() > 0


def test_held_out_votes_have_no_part_in_it(halves):
    training, held_out = halves
    before = offset.fold_offsets(training, held_out)[1:]
    after = offset.fold_offsets(training, held_out.drop(columns=[*VOTE, "group"]))[1:]
    for old, new in zip(before, after, strict=True):
        assert (old == new).all()


def test_too_few_votes_of_a_kind_are_told(halves):
    training, held_out = halves
    few = with_votes(training, np.where(training.group == "group 0", 2, training.label % 2))
    with pytest.raises(UserError, match=r"201 training votes have too few: set it to false"):
        offset.fold_offsets(few, held_out)


def test_exchanged_answers_exchange_it_and_a_saved_one_is_the_same(halves, tmp_path):
    fitted, _, found = offset.fold_offsets(*halves)
    features = count_features(halves[1].rename(columns=EXCHANGED))
    assert np.abs(fitted.of(features) - found[:, MIRRORED]).max() < 1e-6
    fitted.save(tmp_path / "offset.json")
    assert (offset.load(tmp_path / "offset.json").of(count_features(halves[1])) == found).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_is_added_to_the_logits_of_the_three_answers_alone(objective):
    generator = torch.Generator().manual_seed(0)
    width, answers = (3, slice(0, 3)) if objective == "classify" else (50, slice(40, 43))
    logits = torch.randn(4, width, generator=generator)
    added = torch.randn(4, 3, generator=generator)
    shifted = logits.clone()
    shifted[:, answers] += added
    labels = torch.tensor([0, 1, 2, 0])
    expected = torch.nn.functional.cross_entropy(shifted, labels + answers.start, reduction="none")
    loss = OBJECTIVES[objective].loss(logits, torch.eye(3)[labels], added)
    torch.testing.assert_close(loss, expected)


def test_training_and_prediction_add_it(tiny, tiny_tokenizer, votes, params):
    few, added = votes[:6], np.linspace(-1, 1, 18, dtype=np.float32).reshape(6, 3)
    template = Template(tiny_tokenizer, 256, params.prompt)
    plain, shifted = tokenize(few, template), tokenize(few, template, added)
    model = build(tiny(), params.train, CPU)
    compute = Compute(Objective(), CPU, torch.float32, 512)
    ids = [plain.encode(i).ids for i in range(len(few))]
    with probing(model), torch.no_grad():
        for swapped in (False, True):
            before = predict_together(model, plain, compute, swapped)
            after = predict_together(model, shifted, compute, swapped)
            assert np.abs(after - before - added).max() < 1e-6
        logits = class_logits(model, ids, compute).numpy()
        for offsets, total in ((None, logits), (added, logits + added)):
            loss = accumulate(
                model, ids, plain.targets, compute, lambda _: None, offsets=offsets
            ).item()
            probabilities = softmax(total, axis=1)[range(len(few)), few.label]
            assert loss == pytest.approx(-np.log(probabilities).mean(), abs=1e-5)


def test_an_exchanged_example_has_it_exchanged(tiny_tokenizer, votes, params):
    added = np.arange(6, dtype=np.float32).reshape(2, 3)
    examples = tokenize(votes[:2], Template(tiny_tokenizer, 256, params.prompt), added)
    assert examples.offset(1).tolist() == [3, 4, 5]
    assert examples.offset(1, swapped=True).tolist() == [4, 3, 5]
    assert examples.subset([1]).offset(0).tolist() == [3, 4, 5]
