"""Scores over real HTTP, as TRL and OpenRLHF ask for them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from stages import serve
from stages.reward import server
from stages.reward.scorer import Scorer, load_scorer
from tests.support.served import served
from tests.support.trained import Trained, trained_clone

pytestmark = pytest.mark.rounding

QUESTION, GOOD, BAD = "What is 2 + 2?", "It is 4.", "Fish, I think."
USER = {"role": "user", "content": QUESTION}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny) -> Trained:
    return trained_clone(tmp_path_factory, tiny, objective="reward")


@pytest.fixture(scope="module")
def address(trained) -> Iterator[str]:
    with served("serve", trained.path) as address:
        yield address


@pytest.fixture(scope="module")
def scorer(trained) -> Scorer:
    with trained.inside():
        return load_scorer()


def ask(address: str, path: str, **fields: object) -> requests.Response:
    return requests.post(f"{address}/{path}", json=fields, timeout=60)


def rewards(response: requests.Response) -> list[float]:
    assert response.status_code == 200, response.text
    return response.json()["rewards"]


def test_a_reward_function_of_trl_gets_the_scores(address, scorer):
    def reward(prompts, completions, **others):
        return rewards(ask(address, "score", prompts=prompts, completions=completions))

    expected = [scorer.score(QUESTION, answer) for answer in (GOOD, BAD)]
    plain = reward(prompts=[QUESTION] * 2, completions=[GOOD, BAD], completion_ids=[[1], [2]])
    assert plain == pytest.approx(expected, abs=1e-5)
    messages = [[{"role": "assistant", "content": answer}] for answer in (GOOD, BAD)]
    assert reward(prompts=[[USER]] * 2, completions=messages) == pytest.approx(plain, abs=1e-5)


def test_openrlhf_gets_them_for_queries_in_a_chat_template_and_for_plain_ones(address, scorer):
    chat = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    queries = [f"{chat}{GOOD}<|im_end|>", f"{QUESTION}{BAD}</s>"]
    prompts = [chat, QUESTION]
    answered = ask(address, "get_reward", query=queries, prompts=prompts, labels=["4", None])
    expected = [scorer.score(QUESTION, answer) for answer in (GOOD, BAD)]
    assert rewards(answered) == pytest.approx(expected, abs=1e-5)
    assert answered.json()["scores"] == answered.json()["rewards"]
    assert answered.json()["extra_logs"] == {}
    before = ask(address, "get_reward", query=queries[:1])  # as older versions of OpenRLHF send it
    assert rewards(before) == pytest.approx(expected[:1], abs=1e-5)


def test_references_give_win_rates(address, scorer):
    fields = {"prompts": [QUESTION], "completions": [GOOD], "references": [[BAD, "No idea."]]}
    expected = scorer.score(QUESTION, GOOD, [BAD, "No idea."])
    assert rewards(ask(address, "score", **fields)) == pytest.approx([expected], abs=1e-5)


def test_no_answers_have_no_scores(address):
    assert rewards(ask(address, "score", prompts=[], completions=[])) == []


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("score", {"prompts": [QUESTION]}, "completions: Field required"),
        ("score", {"prompts": QUESTION, "completions": [GOOD]}, "prompts: Input should be a valid"),
        ("score", {"prompts": [7], "completions": [GOOD]}, "prompts.0"),
        ("score", {"prompts": [QUESTION], "completions": []}, "1 conversations, 0 answers"),
        ("score", {"prompts": [" "], "completions": [GOOD]}, "answer 1: the conversation is empty"),
        ("score", {"prompts": [[USER]], "completions": [[USER]]}, "ends with what the user says"),
        ("get_reward", {"prompts": [QUESTION]}, "query: Field required"),
        ("get_reward", {"query": ["x"], "prompts": [QUESTION]}, "does not begin with its prompt"),
        ("get_reward", {"query": ["x"], "prompts": []}, "0 prompts, 1 in query"),
        ("get_reward", {"query": ["x"]}, "prompts are missing"),
    ],
)
def test_wrong_fields_are_refused_in_words(address, path, fields, message):
    answered = ask(address, path, **fields)
    assert answered.status_code == 422
    assert message in answered.json()["detail"]


@pytest.mark.parametrize("body", [b"{not json", b"", b"[]", b'"text"', b"\xff\xfe"])
def test_what_is_no_object_of_json_is_refused_in_words(address, body):
    answered = requests.post(f"{address}/score", data=body, timeout=60)
    assert answered.status_code == 422
    assert "expected the fields prompts, completions, references" in answered.json()["detail"]


def test_a_body_that_is_too_large_is_refused_also_in_pieces(address):
    piece = b"x" * 2**20
    pieces = (piece for _ in range(server.LARGEST // len(piece) + 1))
    answered = requests.post(f"{address}/score", data=pieces, timeout=60)
    assert answered.status_code == 413
    assert "send fewer answers at once" in answered.json()["detail"]


def test_requests_at_once_each_get_their_own_scores(address, scorer):
    answers = [f"{i} is the answer, {'really ' * (i % 5)}" for i in range(24)]
    expected = scorer.scores([QUESTION] * 24, answers)

    def one(answer: str) -> float:
        return rewards(ask(address, "score", prompts=[QUESTION], completions=[answer]))[0]

    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(one, answers))
    assert found == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 4) for score in found}) > 12, "an exchanged answer would show"


def test_it_says_what_its_scores_are(address):
    about = requests.get(f"{address}/model", timeout=10).json()
    assert about == {"checkpoint": "llama", "folds": 2, "score": "reward"}


def test_a_port_that_is_taken_is_explained(trained, address, capsys):
    port = address.rsplit(":", 1)[1]
    with pytest.raises(SystemExit):
        trained.call(serve.main, "--port", port)
    assert f"port {port} is not free" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        trained.call(serve.main, "--port", "70000")
    assert "port 70000 is not free" in capsys.readouterr().err
