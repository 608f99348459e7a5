"""A run that compares two answers: win rates against references, and none without."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
import uvicorn

from stages import predict, rewardbench
from stages.config.errors import UserError
from stages.reward.scorer import Scorer, load_scorer
from stages.reward.server import make_app
from stages.runs import batch
from stages.runs.listening import listen
from stages.votes.texts import from_texts
from tests.support.trained import Trained, trained_clone

pytestmark = pytest.mark.rounding

QUESTION, GOOD, BAD = "What is 2 + 2?", "It is 4.", "Fish, I think."
NEEDED = "no score under train.objective classify, which compares two answers: expected references"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny) -> Trained:
    return trained_clone(tmp_path_factory, tiny)


@pytest.fixture(scope="module")
def scorer(trained) -> Scorer:
    with trained.inside():
        return load_scorer()


@pytest.fixture
def here(trained, scorer, monkeypatch) -> Iterator[Trained]:
    for module in (batch, rewardbench):
        monkeypatch.setattr(module, "load_model", lambda *given: scorer.model)
    with trained.inside():
        yield trained


@pytest.fixture(scope="module")
def address(scorer) -> Iterator[str]:
    """A real server, in a thread."""
    listening = listen("127.0.0.1", 0)
    running = uvicorn.Server(uvicorn.Config(make_app(scorer), log_level="warning"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    running.should_exit = True
    thread.join()


def win_rate(scorer: Scorer, answer: str, reference: str) -> float:
    """As it follows from what each order says."""
    frame = pd.DataFrame([{"prompt": QUESTION, "response_a": answer, "response_b": reference}])
    found = scorer.model.predict(from_texts(frame))
    ((a, _, tie),) = (found.ab + found.ba) / 2
    return a + tie / 2


def test_a_win_rate_is_half_of_the_ties_and_all_wins_in_both_orders(scorer):
    there, back = scorer.score(QUESTION, GOOD, BAD), scorer.score(QUESTION, BAD, GOOD)
    assert there == pytest.approx(win_rate(scorer, GOOD, BAD), abs=1e-6)
    assert there + back == pytest.approx(1) and abs(there - 0.5) > 1e-3
    several = scorer.score(QUESTION, GOOD, [BAD, "5"])
    assert several == pytest.approx((there + win_rate(scorer, GOOD, "5")) / 2, abs=1e-5)


def test_the_reference_answers_the_last_turn(scorer):
    earlier = {"prompt": ["Hi!", QUESTION], "response_a": ["Hello!", GOOD]}
    battle = pd.DataFrame([earlier | {"response_b": ["Hello!", BAD], "system": None}])
    expected = scorer.win_rates(battle)[0]
    found = scorer.score(["Hi!", QUESTION], ["Hello!", GOOD], BAD)
    assert found == pytest.approx(expected, abs=1e-6)


def test_without_references_it_is_refused_in_words(here, scorer, address, capsys):
    with pytest.raises(UserError, match=NEEDED):
        scorer.score(QUESTION, GOOD)
    Path("answers.csv").write_text("prompt,response\nq,a\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        here.call(predict.main, "--score", "answers.csv", "--output", "scores.csv")
    assert NEEDED in capsys.readouterr().err and not Path("scores.csv").exists()
    asked = {"prompts": [QUESTION], "completions": [GOOD]}
    answered = requests.post(f"{address}/score", json=asked, timeout=60)
    assert answered.status_code == 422 and NEEDED in answered.json()["detail"]


def test_files_and_http_give_win_rates_with_references(here, scorer, address):
    expected = scorer.score(QUESTION, GOOD, BAD)
    row = {"prompt": QUESTION, "response": GOOD, "reference": BAD}
    Path("answers.jsonl").write_text(json.dumps(row), encoding="utf-8")
    here.call(predict.main, "--score", "answers.jsonl", "--output", "scores.csv")
    assert pd.read_csv("scores.csv").score[0] == pytest.approx(expected, abs=1e-6)
    asked = {"prompts": [QUESTION], "completions": [GOOD], "references": [BAD]}
    answered = requests.post(f"{address}/score", json=asked, timeout=60)
    assert answered.json()["rewards"] == pytest.approx([expected], abs=1e-6)


def test_openrlhfs_labels_are_the_references(scorer, address):
    asked = {"query": [f"{QUESTION}{GOOD}"], "prompts": [QUESTION], "labels": [BAD]}
    answered = requests.post(f"{address}/get_reward", json=asked, timeout=60)
    expected = scorer.score(QUESTION, GOOD, BAD)
    assert answered.json()["rewards"] == pytest.approx([expected], abs=1e-6)
    for labels in ([None], [""], None):
        answered = requests.post(
            f"{address}/get_reward", json=asked | {"labels": labels}, timeout=60
        )
        assert answered.status_code == 422 and "reference" in answered.json()["detail"]


def test_rewardbench_compares_the_two_answers(here, scorer):
    answers = [GOOD, BAD, "Four", "5"]
    pairs = [{"prompt": QUESTION, "chosen": a, "rejected": b} for a in answers for b in answers]
    Path("bench.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    here.call(rewardbench.main, "bench.jsonl", "--output", "bench.json")
    found = json.loads(Path("bench.json").read_text(encoding="utf-8"))
    assert found["scored_by"] == "win rate"
    rates = np.array([win_rate(scorer, pair["chosen"], pair["rejected"]) for pair in pairs])
    assert found["all"]["ties"] == 4, "equal answers"
    assert found["all"]["accuracy"] == (np.sum(rates > 0.5 + 1e-6) + 2) / 16 == 0.5
