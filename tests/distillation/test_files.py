"""A teacher's files: what is refused, and in which words."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages import auxiliary, predictions, prepare, split, teacher
from stages.config import paths
from stages.config.errors import UserError
from stages.config.teacher import Pairs, Teacher
from stages.distillation.pairs import beside, read_pairs
from stages.distillation.soft_labels import count_unknown, of_fold, read_predictions
from stages.votes.groups import find_groups
from stages.votes.labels import LABELS
from tests.support.places import REPO
from tests.support.raw import kaggle, settings


def written(folder, **columns: list):
    path = folder / "teacher.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"id": [1], "a": [0.5], "b": [0.5]}, "expected the columns id, winner_model_a"),
        ({"id": [1, 2], "a": [1, 0.5], "b": [0, 0.2], "tie": [0, 0.2]}, r"1 rows \(2\) have"),
        ({"id": [1], "a": [1.5], "b": [-0.5], "tie": [0]}, "expected probabilities from 0"),
        ({"id": [1], "a": ["much"], "b": [0.5], "tie": [0.5]}, "expected probabilities from 0"),
        ({"id": [1, 1], "a": [1, 1], "b": [0, 0], "tie": [0, 0]}, "one row for each id"),
        ({"id": [1], "a": [1], "b": [0], "tie": [0], "fold": ["x"]}, "the number of a fold"),
    ],
)
def test_what_is_no_prediction_is_refused(tmp_path, columns, words):
    with pytest.raises(UserError, match=words):
        read_predictions(written(tmp_path, **columns))


def test_a_row_for_a_fold_teaches_that_folds_student_alone(tmp_path):
    path = written(tmp_path, id=["7", "7"], a=[1, 0], b=[0, 1], tie=[0, 0], fold=[0, 1])
    table, ids = read_predictions(path), pd.Series(["7", "8"])
    assert of_fold(table, 0, ids)[0].tolist() == [1, 0, 0]
    assert of_fold(table, 1, ids)[0].tolist() == [0, 1, 0]
    assert pd.isna(of_fold(table, 2, ids)).all() and pd.isna(of_fold(table, 0, ids)[1]).all()
    assert count_unknown(table, {"8"}, set()) == 2
    with pytest.raises(UserError, match="a vote and of a pair"):
        count_unknown(table, {"7"}, {"7"})


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"pairs": [{"raw": "more.jsonl"}]}, "need a teacher"),
        ({"from": "gemma", "predictions": [{"raw": "a.csv"}]}, "expected one teacher"),
        ({"from": __file__}, "list a file of predictions in teacher.predictions"),
    ],
)
def test_a_section_that_says_too_little_or_too_much_is_refused(section, words):
    with pytest.raises(ValueError, match=words):
        Teacher.model_validate(section)


def test_pairs_have_numbers_for_ids_where_the_file_has_none_and_no_bad_row_is_silent(tmp_path):
    path = tmp_path / "more.csv"
    pairs = {"prompt": ["p", "", "q"], "response_a": list("abc"), "response_b": list("def")}
    pd.DataFrame(pairs).to_csv(path, index=False)
    found, bad, _ = read_pairs(Pairs(raw=str(path), source="web"), settings(path))
    assert found.id.tolist() == ["1", "3"] and set(found.source) == {"web"}
    assert bad.row.tolist() == [2] and "prompt is empty" in bad.reason[0]


def test_a_pair_that_joins_a_held_out_prompt_to_another_is_left_out_of_that_fold():
    turns = ["tell me of the highest mountain", "name all the rivers of the south"]
    votes = pd.DataFrame({"prompt": [[turn] for turn in turns], "fold": [0, 1]})
    votes["group"] = find_groups(votes.prompt).names
    other = ["say hello to my friends now"]
    pairs = pd.DataFrame({"id": ["both", "none"], "prompt": [turns, other]})
    assert beside(pairs, votes, 0).id.tolist() == ["none"]
    assert beside(pairs, votes, 1).id.tolist() == ["none"]
    kept = beside(pairs, votes, 2)
    assert kept.id.tolist() == ["both", "none"] and kept.group.iloc[0] == votes.group[0]


# With the votes that they are about


class Taught:
    """A folder in which the stages up to `teacher` run, on votes and predictions of a test."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder, self.patch = folder, monkeypatch
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DVC_ROOT", str(folder))

    def votes(self, name: str, ids: Iterable[object], labels: tuple[str, ...] = LABELS) -> None:
        rows = [kaggle(id_, labels[n % len(labels)]) for n, id_ in enumerate(ids)]
        words = [f'["{name} asks {row["id"]} {n**3}"]' for n, row in enumerate(rows)]
        pd.DataFrame(rows).assign(prompt=words).to_csv(name, index=False)

    def predictions(self, ids: Iterable[object], says: tuple = (0.5, 0.3, 0.2), **more) -> None:
        table = pd.DataFrame({"id": list(ids)})
        table.assign(**dict(zip(LABELS, says, strict=True)), **more).to_csv("t.csv", index=False)

    def run(self, *others: str, fold: int = 0) -> None:
        """Every stage from the votes to the teacher."""
        params = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
        params["data"] |= {"raw": "own.csv", "auxiliary": [{"raw": name} for name in others]}
        params["teacher"] |= {"predictions": [{"raw": "t.csv"}]}
        Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        for place in range(len(others)):
            self._call(auxiliary.main, f"file{place}")
        for stage in (prepare, split):
            self._call(stage.main)
        self._call(predictions.main, "file0")
        Path("data/teacher").mkdir(exist_ok=True)
        self._call(teacher.main, str(fold))

    def _call(self, main: Callable[[], None], *arguments: str) -> None:
        self.patch.setattr(sys, "argv", ["stage", *arguments])
        main()


@pytest.fixture
def taught(tmp_path, monkeypatch) -> Taught:
    return Taught(tmp_path, monkeypatch)


def test_an_id_that_votes_of_two_files_have_is_refused(taught, capsys):
    """The files have the same name, too: only their place tells whose votes they are."""
    Path("more").mkdir()
    taught.votes("own.csv", range(60))
    taught.votes("more/own.csv", range(40, 70))
    taught.predictions(range(58, 70))
    with pytest.raises(SystemExit):
        taught.run("more/own.csv")
    told = capsys.readouterr().err
    assert "found 2 (58, 59) that several have: 58 is in own.csv and in more/own.csv" in told
    counts = json.loads(paths.PREPARE_METRICS.read_text(encoding="utf-8"))
    assert counts["ids_made_unique"] == 20

    taught.predictions(range(60, 70))
    taught.run("more/own.csv")
    lessons = pd.read_parquet(paths.teacher(0))
    assert set(lessons.id) == {str(id_) for id_ in range(60, 70)}


@pytest.mark.parametrize(
    ("labels", "says", "words"),
    [
        (LABELS[:2], (0.5, 0.3, 0.2), "what it gives to ties, 20.0% on average, goes to A and B"),
        (LABELS, (0.6, 0.4, 0), "found 0 for a tie in all 30 of its predictions"),
        (LABELS[:2], (0.6, 0.4, 0), None),
        (LABELS, (0.5, 0.3, 0.2), None),
    ],
)
def test_a_teacher_with_other_classes_than_the_votes_is_told(taught, labels, says, words, capsys):
    taught.votes("own.csv", range(60), labels)
    taught.predictions(range(60), says)
    taught.run()
    told = capsys.readouterr().out
    assert words in told if words else "teacher: " not in told


@pytest.mark.parametrize(
    ("ids", "more", "words"),
    [
        ([f"x{id_}" for id_ in range(60)], {}, "ids such as x0. No vote or pair in use has an id"),
        ([f"{id_}.0" for id_ in range(60)], {}, "ids such as 0.0. No vote or pair in use has"),
        (range(60), {"fold": 1}, "All rows are for the students of other folds (1): add rows for"),
        (None, {}, "holds out the votes that are predicted"),
    ],
)
def test_predictions_of_nothing_that_a_fold_is_trained_on_are_refused(
    taught, ids, more, words, capsys
):
    taught.votes("own.csv", range(60))
    if ids is None:  # those that fold 0 holds out
        taught.predictions(range(60))
        taught.run()
        folds = pd.read_parquet(paths.FOLDS)
        ids = folds.id[folds.fold == 0]
    taught.predictions(ids, **more)
    with pytest.raises(SystemExit):
        taught.run()
    told = capsys.readouterr().err
    assert told.startswith("error: t.csv: expected predictions of what fold 0 is trained on, 30 ")
    assert words in told
