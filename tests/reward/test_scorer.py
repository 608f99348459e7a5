"""Scores of single answers, from Python: what they mean, and for which values they are given."""

import copy

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax

from stages.config.errors import UserError
from stages.reward.scorer import Scorer, load_scorer
from stages.runs.blended import Blend
from stages.votes.rows import BadRow
from tests.support.trained import Trained, trained_clone

pytestmark = pytest.mark.rounding

QUESTION, GOOD, BAD = "What is 2 + 2?", "It is 4.", "Fish, I think."


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


WITHOUT_TIES = pytest.param(False, marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=[True, WITHOUT_TIES], ids=["ties", "no ties"])
def trained(request, tmp_path_factory, tiny) -> Trained:
    return trained_clone(tmp_path_factory, tiny, ties=request.param, objective="reward")


@pytest.fixture(scope="module")
def scorer(trained) -> Scorer:
    with trained.inside():
        return load_scorer()


def both(scorer: Scorer, battles: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """What each fold's model says of both answers of battles."""
    sides = [battles.assign(response=battles[f"response_{side}"]) for side in "ab"]
    a, b = (scorer.model.rewards(side).astype(float) for side in sides)
    return a, b


# What they mean


def test_rewards_are_predicts_probabilities_by_davidsons_formula(trained, scorer):
    battles = trained.battles()
    a, b = both(scorer, battles)
    logits = np.concatenate([a[..., :1], b[..., :1], a[..., 1:] + b[..., 1:]], axis=-1)
    assert logits.shape[-1] == scorer.model.classes
    found = softmax(logits, axis=-1).mean(axis=0)
    expected = scorer.model.predict(battles).averaged[:, : scorer.model.classes]
    assert np.abs(found - expected).max() < 1e-5


def test_a_difference_is_the_mean_log_ratio_of_winning(trained, scorer):
    battles = trained.battles()
    logits, _ = scorer.model.logits(battles)
    chances = softmax(logits.astype(float), axis=-1)[:, 0]  # exchanged answers add nothing
    ratio = np.log(chances[..., 0] / chances[..., 1]).mean(axis=0)
    a, b = (
        np.array(scorer.scores([list(p) for p in battles.prompt], [list(r) for r in battles[name]]))
        for name in ("response_a", "response_b")
    )
    assert np.abs(a - b - ratio).max() < 1e-4
    assert np.ptp(a) > 0.1, "answers differ"


def test_under_each_fold_the_difference_is_the_logit_of_winning_where_there_is_no_tie(
    trained, scorer
):
    battles = trained.battles()
    a, b = both(scorer, battles)
    chances = softmax(scorer.model.logits(battles)[0].astype(float), axis=-1)[:, 0]
    wins, losses = chances[..., 0], chances[..., 1]
    assert np.abs(expit(a - b)[..., 0] - wins / (wins + losses)).max() < 1e-5


def test_a_batch_gives_each_answer_the_score_that_it_has_alone_in_any_order(trained, scorer):
    battles = trained.battles().head(12)
    talks, answers = [list(p) for p in battles.prompt], [list(r) for r in battles.response_a]
    together = np.array(scorer.scores(talks, answers))
    alone = [scorer.score(talk, answer) for talk, answer in zip(talks, answers, strict=True)]
    order = np.random.default_rng(0).permutation(12)
    mixed = scorer.scores([talks[i] for i in order], [answers[i] for i in order])
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together[order] - mixed).max() < 1e-5
    assert scorer.scores([], []) == []


def test_with_references_a_reward_run_gives_win_rates_too(scorer):
    there = scorer.score(QUESTION, GOOD, references=BAD)
    back = scorer.score(QUESTION, BAD, references=[GOOD])
    assert 0 < there < 1 and there != 0.5 and there + back == pytest.approx(1)


# Values


@pytest.mark.parametrize(
    ("conversation", "answer"),
    [
        ([QUESTION], GOOD),
        ([QUESTION], [GOOD]),
        ([user(QUESTION)], GOOD),
        ([user(QUESTION)], [assistant(GOOD)]),
        (QUESTION, [assistant(GOOD)]),
        ([{"from": "human", "value": QUESTION}], GOOD),
    ],
)
def test_a_conversation_may_be_a_text_turns_or_messages(scorer, conversation, answer):
    assert scorer.score(conversation, answer) == pytest.approx(scorer.score(QUESTION, GOOD))


def test_earlier_turns_and_system_prompts_are_read(scorer):
    turns = scorer.score(["Hi!", QUESTION], ["Hello!", GOOD])
    messages = [user("Hi!"), assistant("Hello!"), user(QUESTION)]
    assert scorer.score(messages, GOOD) == pytest.approx(turns)
    other = scorer.score([{"role": "system", "content": "Answer in rhyme."}, *messages], GOOD)
    assert len({round(x, 5) for x in (turns, other, scorer.score(QUESTION, GOOD))}) == 3


def test_a_text_stays_a_text_whatever_it_looks_like(scorer):
    listed, transcript = '["x", "y"]', "Human: x\n\nAssistant: y\n\nHuman: z"
    found = [scorer.score(text, text) for text in (listed, transcript)]
    spoken = [scorer.score([user(text)], [assistant(text)]) for text in (listed, transcript)]
    assert found == pytest.approx(spoken)
    assert np.isfinite(scorer.score("half a pair: \ud800", "")), "as files may hold it"


@pytest.mark.parametrize(
    ("conversation", "answer", "references", "message"),
    [
        (None, GOOD, None, "conversation is None: expected a text, a list of texts, or messages"),
        (" ", GOOD, None, "the conversation is empty"),
        (QUESTION, None, None, "answer is None"),
        (QUESTION, 4, None, "answer is 4"),
        (QUESTION, [GOOD, BAD], None, "answer has 2 texts to one prompt"),
        ([QUESTION, "why?"], GOOD, None, "2 turns of the user, and not as many answers"),
        ([QUESTION, "why?"], [GOOD], None, "2 turns of the user, and not as many answers"),
        ([user(QUESTION), assistant(GOOD)], GOOD, None, "prompt ends with an answer"),
        ([{"content": QUESTION}], GOOD, None, "message without a role"),
        (QUESTION, [user(GOOD)], None, "answer ends with what the user says"),
        (QUESTION, GOOD, [], "references is no list of texts"),
        (QUESTION, GOOD, [7], "references is no list of texts"),
        (QUESTION, GOOD, " ", "a reference is empty"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(scorer, conversation, answer, references, message):
    with pytest.raises(BadRow, match=message):
        scorer.score(conversation, answer, references)


def test_a_batch_names_the_answer_that_is_wrong_and_wants_as_many_of_each(scorer):
    with pytest.raises(BadRow, match="answer 2: answer is None"):
        scorer.scores([QUESTION] * 2, [GOOD, None])
    with pytest.raises(BadRow, match="found 2 conversations, 1 answers"):
        scorer.scores([QUESTION] * 2, [GOOD])
    with pytest.raises(BadRow, match="answer 2: its reference is missing"):
        scorer.scores([QUESTION] * 2, [GOOD] * 2, [BAD, None])


def test_an_offset_or_a_blend_needs_references(scorer):
    offset = copy.copy(scorer.model)
    offset.alone = False
    with pytest.raises(UserError, match=r"no score under train\.offset, which compares"):
        Scorer(offset).score(QUESTION, GOOD)
    with pytest.raises(UserError, match="no score under a blend"):
        Scorer(Blend.__new__(Blend)).check(compared=False)
