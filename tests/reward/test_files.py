"""Files of answers: a score a row, the best of several, and RewardBench's accuracies."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from stages import predict, rewardbench
from stages.reward.files import Answers
from stages.reward.rewardbench import accuracies, accuracy, wilson
from stages.reward.scorer import Scorer, load_scorer
from stages.runs import batch
from tests.support.gpus import pretend_gpus
from tests.support.trained import Trained, trained_clone

pytestmark = pytest.mark.rounding

ANSWERS = ["It is 4.", "Fish, I think.", "Four", "5, or 4?", "I can't say."]
QUESTIONS = ["What is 2 + 2?", "Add 2 to 2."]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny) -> Trained:
    return trained_clone(tmp_path_factory, tiny, objective="reward")


@pytest.fixture(scope="module")
def scorer(trained) -> Scorer:
    with trained.inside():
        return load_scorer()


@pytest.fixture
def here(trained, scorer, monkeypatch) -> Iterator[Trained]:
    """The clone as working folder; its model is loaded once."""
    for module in (batch, rewardbench):
        monkeypatch.setattr(module, "load_model", lambda *given: scorer.model)
    with trained.inside():
        yield trained


def write(path: Path, rows: list[dict]) -> str:
    """Write rows as the path's ending says."""
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".csv":
        lists = frame.map(lambda cell: json.dumps(cell) if isinstance(cell, list) else cell)
        lists.to_csv(path, index=False)
    else:
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def expected(scorer: Scorer, rows: list[dict]) -> list[float]:
    return scorer.scores([row["prompt"] for row in rows], [row["response"] for row in rows])


def grouped() -> list[dict]:
    """Answers to two questions in turn, a row each."""
    return [
        {"id": f"{letter}{i}", "prompt": question, "response": answer}
        for i, answer in enumerate(ANSWERS)
        for letter, question in zip("ab", QUESTIONS, strict=True)
    ]


# A score a row


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_each_row_gets_its_score_whatever_its_order_in_every_format(
    here, scorer, tmp_path, ending, capsys
):
    rows = grouped() * 8  # more than one part
    rows = [row | {"id": f"{n}-{row['id']}"} for n, row in enumerate(rows)]
    mixed = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    output = tmp_path / f"out/scores{ending}"
    given = write(tmp_path / f"answers{ending}", mixed)
    here.call(predict.main, "--score", given, "--output", str(output))
    readers = {".csv": pd.read_csv, ".jsonl": lambda p: pd.read_json(p, lines=True)}
    found = readers.get(ending, pd.read_parquet)(output)
    assert found.columns.tolist() == ["id", "score"]
    assert found.id.tolist() == [row["id"] for row in mixed]
    assert np.abs(found.score - expected(scorer, mixed)).max() < 1e-5
    printed = capsys.readouterr().out
    assert "taken for answers in response" in printed and "80 rows scored by llama" in printed
    assert not output.with_suffix(".parts").exists(), "parts are removed in the end"


@pytest.mark.slow
def test_two_processes_score_as_one_does_and_tell_the_tokens(
    here, tmp_path, monkeypatch, scorer, capsys
):
    rows = [row | {"id": n} for n, row in enumerate(grouped() * 14)]
    given = write(tmp_path / "answers.jsonl", rows)
    call = ("--score", given, "--output")
    here.call(predict.main, *call, str(tmp_path / "alone.csv"), "--plan")
    told = capsys.readouterr().out
    here.call(predict.main, *call, str(tmp_path / "alone.csv"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # to have it back afterwards
    pretend_gpus(tmp_path, monkeypatch)
    monkeypatch.setenv("GPUS", "2")
    here.call(predict.main, *call, str(tmp_path / "together.csv"))
    alone, together = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("alone", "together"))
    assert together.id.tolist() == alone.id.tolist()
    assert np.abs(together.score - alone.score).max() < 1e-5
    opened = Answers(Path(given), best_of=False).opened(scorer.model)
    tokens = f"140 rows to read (2 folds) are {opened.tokens(rows).sum():,} tokens"
    assert tokens in told and tokens in capsys.readouterr().out


def test_messages_and_trls_columns_are_read_as_prompt_and_response(here, scorer, tmp_path):
    said = {"role": "user", "content": QUESTIONS[0]}
    answered = {"role": "assistant", "content": ANSWERS[0]}
    files = {
        "whole": {"messages": [said, answered]},
        "trl": {"prompt": [said], "completion": [answered]},
        "plain": {"instruction": QUESTIONS[0], "response": ANSWERS[0]},
    }
    for name, row in files.items():
        given = write(tmp_path / f"{name}.jsonl", [row])
        output = tmp_path / f"{name}.csv"
        here.call(predict.main, "--score", given, "--output", str(output))
        found = pd.read_csv(output)
        assert found.id.tolist() == [1]
        assert found.score[0] == pytest.approx(scorer.score(QUESTIONS[0], ANSWERS[0]), abs=1e-5)


def test_a_row_that_cannot_be_read_is_listed_in_words_and_gets_no_score(here, tmp_path, capsys):
    rows = [
        *({"id": i, "prompt": QUESTIONS[0], "response": answer} for i, answer in enumerate("xyz")),
        {"id": "none", "prompt": QUESTIONS[0], "response": None},
        {"id": "blank", "prompt": " ", "response": "x"},
        {"id": None, "prompt": QUESTIONS[0], "response": "x"},
    ]
    given, output = write(tmp_path / "answers.jsonl", rows), tmp_path / "scores.csv"
    with pytest.raises(SystemExit) as ended:
        here.call(predict.main, "--score", given, "--output", str(output))
    assert ended.value.code == 1, "data.max_quarantined allows no half"
    assert "3 of them could not be read and got no score" in capsys.readouterr().err
    assert pd.read_csv(output).score.isna().tolist() == [False] * 3 + [True] * 3
    listed = pd.read_csv(tmp_path / "scores.unreadable.csv")
    assert listed.row.tolist() == [4, 5, 6]
    for reason, words in zip(listed.reason, ("missing", "empty", "id is missing"), strict=True):
        assert words in reason


def test_references_give_win_rates(here, scorer, tmp_path):
    plain = {"prompt": QUESTIONS[0], "response": ANSWERS[0]}
    for column, value in (("reference", ANSWERS[1]), ("references", ANSWERS[1:3])):
        given = write(tmp_path / f"{column}.csv", [plain | {column: value}])
        here.call(predict.main, "--score", given, "--output", str(tmp_path / "scores.csv"))
        found = pd.read_csv(tmp_path / "scores.csv").score[0]
        assert found == pytest.approx(scorer.score(*plain.values(), value), abs=1e-5)
        assert 0 < found < 1


@pytest.mark.parametrize(
    ("row", "arguments", "message"),
    [
        ({"prompt": "p", "chosen": "a"}, [], "holds no answers to score: expected prompt and"),
        ({"prompt": "p", "responses": ["a", "b"]}, [], "several answers in a row"),
        ({"prompt": "p", "response": "a"}, ["--output", "x.txt"], "expected a file in .csv, .js"),
        ({"prompt": "p", "response": "a"}, ["--output", "in.jsonl"], "would overwrite in.jsonl"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(here, capsys, row, arguments, message):
    write(Path("in.jsonl"), [row])
    with pytest.raises(SystemExit) as ended:
        here.call(predict.main, "--score", "in.jsonl", "--output", "s.csv", *arguments)
    assert ended.value.code == 1 and message in capsys.readouterr().err


# The best of several


def check_order(scorer: Scorer, found: pd.Series, question: str, numbers: list[int]) -> None:
    """Whether a line of the output has the order of these answers."""
    scores = np.array(scorer.scores([question] * len(ANSWERS), ANSWERS))
    order = np.argsort(-scores)
    assert found.best == ANSWERS[order[0]]
    assert list(found.order) == [numbers[i] for i in order]
    assert list(found.scores) == pytest.approx(scores[order].tolist(), abs=1e-5)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_the_best_of_a_list_stands_with_the_order_of_all(here, scorer, tmp_path, ending):
    rows = [{"id": q, "prompt": q, "responses": ANSWERS} for q in QUESTIONS]
    given = write(tmp_path / f"answers{ending}", rows)
    output = str(tmp_path / "best.jsonl")
    here.call(predict.main, "--score", given, "--output", output, "--best-of")
    found = pd.read_json(output, lines=True)
    assert found.id.tolist() == QUESTIONS
    for _, line in found.iterrows():
        check_order(scorer, line, line.id, [1, 2, 3, 4, 5])


def test_the_best_of_rows_with_one_prompt_names_the_rows(here, scorer, tmp_path):
    given, output = write(tmp_path / "answers.csv", grouped()), tmp_path / "best.csv"
    here.call(predict.main, "--score", given, "--output", str(output), "--best-of")
    found = pd.read_csv(output, converters={"order": json.loads, "scores": json.loads})
    assert found.id.tolist() == ["a0", "b0"]
    check_order(scorer, found.iloc[0], QUESTIONS[0], [1, 3, 5, 7, 9])
    check_order(scorer, found.iloc[1], QUESTIONS[1], [2, 4, 6, 8, 10])


def test_best_of_without_score_is_refused(here, capsys):
    with pytest.raises(SystemExit):
        here.call(predict.main, "--input", "in.csv", "--output", "s.csv", "--best-of")
    assert "give the file with --score" in capsys.readouterr().err


# RewardBench


def test_accuracies_by_subset_are_those_of_the_scores(here, scorer, tmp_path, capsys):
    pairs = [
        {"prompt": q, "chosen": a, "rejected": b, "subset": subset}
        for subset, q in zip(("easy", "hard"), QUESTIONS, strict=True)
        for a in ANSWERS
        for b in ANSWERS  # equal ones are ties
    ]
    given, output = write(tmp_path / "bench.jsonl", pairs), tmp_path / "bench.json"
    here.call(rewardbench.main, given, "--output", str(output))
    found = json.loads(output.read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    assert found["scored_by"] == "reward" and set(found["subsets"]) == {"easy", "hard"}
    for row in found["subsets"].values():  # each pair is there in both orders
        assert (row["pairs"], row["ties"], row["accuracy"]) == (25, 5, 0.5)
    assert found["all"]["pairs"] == 50 and found["all"]["low"] < 0.5 < found["all"]["high"]
    assert "easy     25     5    0.5000 [0.3" in printed
    known = {q: dict(zip(ANSWERS, scorer.scores([q] * 5, ANSWERS), strict=True)) for q in QUESTIONS}
    scores = [(known[p["prompt"]][p["chosen"]], known[p["prompt"]][p["rejected"]]) for p in pairs]
    right = [
        pair for pair, (chosen, rejected) in zip(pairs, scores, strict=True) if chosen > rejected
    ]
    given = write(tmp_path / "right.jsonl", right)
    here.call(rewardbench.main, given, "--output", str(output))
    assert json.loads(output.read_text(encoding="utf-8"))["all"]["accuracy"] == 1


def test_rows_that_cannot_be_read_stop_it_or_are_told(here, tmp_path, capsys):
    good = {"prompt": "p", "chosen": "a", "rejected": "b"}
    bad = good | {"chosen": None}
    with pytest.raises(SystemExit):
        here.call(rewardbench.main, write(tmp_path / "half.jsonl", [good, bad]))
    assert "1 of 2 rows cannot be read" in capsys.readouterr().err
    here.call(rewardbench.main, write(tmp_path / "few.jsonl", [good] * 120 + [bad]))
    printed = capsys.readouterr().out
    assert "1 rows could not be read and are left out:\n  row 121: chosen is missing" in printed
    assert "no subset    120" in printed
    with pytest.raises(SystemExit):
        here.call(rewardbench.main, write(tmp_path / "other.jsonl", [{"prompt": "p", "x": "a"}]))
    assert "no known layout" in capsys.readouterr().err


@pytest.mark.parametrize(("right", "total"), [(0, 5), (3, 4), (50, 120), (7, 7)])
def test_the_interval_is_wilsons(right, total):
    known = binomtest(right, total).proportion_ci(method="wilson")
    assert wilson(right, total) == pytest.approx((known.low, known.high))


def test_equal_scores_count_half_and_are_told():
    found = accuracy(np.array([0.3, -0.2, 0.0, 1e-9]))
    assert (found["pairs"], found["ties"], found["accuracy"]) == (4, 2, 0.5)
    both = accuracies(pd.Series(["x", "y", "x", "y"]), np.array([1.0, -1.0, 1.0, 0.0]))
    assert both["subsets"]["x"]["accuracy"] == 1 and both["subsets"]["y"]["accuracy"] == 0.25
    assert both["all"]["accuracy"] == 0.625
