"""A teacher that never saw what a fold holds out: by construction, in a clone with real DVC."""

import contextlib
import json

import numpy as np
import pandas as pd
import pytest

from stages import evaluate, predictions, prepare, split, teacher, train, weights
from stages import pairs as pairs_of
from stages.config import paths
from stages.config.errors import UserError
from stages.distillation.experiment import require_model, require_same_folds
from stages.runs.ensemble import Ensemble
from stages.runs.model_folder import get_experiment
from stages.runs.revisions import resolve
from stages.training import run
from stages.training.soft_targets import SAYS, VOTES
from stages.verification import clone
from stages.votes.labels import TARGETS, targets_of
from stages.votes.rows import TURNS, WINNERS
from tests.support.trained import FOLDS, Trained


class Honest(Trained):
    """A run whose folds have what they have learned, and not planted weights."""

    def train(self) -> None:
        self.call(weights.main)
        for fold in FOLDS:
            self.call(train.main, str(fold))

    def teach(self, fold: int) -> bytes:
        """What the stage `teacher` writes for a fold."""
        self.call(teacher.main, str(fold))
        return (self.path / paths.teacher(fold)).read_bytes()

    def folds(self) -> pd.DataFrame:
        return pd.read_parquet(self.path / paths.FOLDS)


STAGES = ("prepare", "split", "teacher", "train", "evaluate")


@pytest.fixture(scope="module")
def ended(tmp_path_factory, tiny) -> Honest:
    """A run that has ended, and may teach: its commit has the tag `first`."""
    made = Honest(tmp_path_factory.mktemp("teacher")).make(tiny)
    made.git("tag", "first")
    return made


@pytest.fixture
def first(ended) -> Honest:
    """The same, with its own params."""
    ended.git("checkout", "-q", "first", "--", "params.yaml")
    return ended


def student_of(run_of: Honest, fold: int, monkeypatch) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a fold's student is trained on, and what it holds out."""
    frames = []

    def stop(weights, training, held_out, *_):
        frames.extend([training, held_out])
        raise UserError("seen enough")

    with monkeypatch.context() as patch:
        patch.setattr(run, "train_fold", stop)
        with run_of.inside(), pytest.raises(UserError, match="seen enough"):
            run.run(fold)
    return frames[0], frames[1]


def test_the_teacher_of_a_fold_never_saw_its_held_out_votes(first):
    """Those votes change, everything is made anew, and the fold is taught the same to the byte."""
    first.set_params(teacher={"from": "first"})
    before = {fold: first.teach(fold) for fold in FOLDS}
    folds = first.folds()
    votes = first.path / "data/raw/starter.csv"
    shipped = votes.read_bytes()
    table = pd.read_csv(votes, dtype=str)
    held_out = table.id.isin(folds.id[folds.fold == 0])
    hard = table.loc[held_out, list(WINNERS)].astype(float)
    # Less sure, for the same side: the labels, by which folds are dealt, stay.
    table.loc[held_out, list(WINNERS)] = (0.7 * hard + 0.1).round(6).astype(str)
    try:
        table.to_csv(votes, index=False)
        first.set_params(teacher={"from": None})
        for stage in (prepare, split):
            first.call(stage.main)
        first.train()
        first.call(evaluate.main)
        first.dvc("commit", "--force", *STAGES)
        first.commit("Other votes")
        pd.testing.assert_frame_equal(first.folds(), folds)
        first.set_params(teacher={"from": "HEAD"})
        assert first.teach(0) == before[0], "fold 0 is taught by what fold 0 holds out"
        assert first.teach(1) != before[1], "the test would not see a leak"
    finally:
        votes.write_bytes(shipped)
        first.git("checkout", "-q", "first", "--", ".")
        first.dvc("checkout", "--force", *STAGES)


def test_a_student_is_trained_on_its_teachers_part_and_on_no_held_out_vote(first, monkeypatch):
    first.set_params(teacher={"from": "first", "weight": 0.25})
    first.teach(1)
    lessons = pd.read_parquet(first.path / paths.teacher(1))
    training, held_out = student_of(first, 1, monkeypatch)
    assert not set(held_out.id) & {*training.id, *lessons.id}
    assert set(held_out.id) == set(first.folds().query("fold == 1").id)
    assert set(lessons.id) == set(training.id) and lessons.prompt.isna().all()
    says = lessons.set_index("id").loc[training.id, list(SAYS)].to_numpy()
    expected = 0.75 * training[list(VOTES)].to_numpy() + 0.25 * says
    assert targets_of(training) == pytest.approx(expected, abs=1e-6)
    facts = json.loads((first.path / paths.teacher_facts(1)).read_text(encoding="utf-8"))
    assert facts["from"] == "first" and len(facts["commit"]) == 40


def test_its_own_model_of_the_fold_teaches_uncalibrated(first, tmp_path, capsys):
    """In fold 0 the model of fold 0: what it says of fold 1's votes is not their out-of-fold."""
    first.set_params(teacher={"from": "first"})
    first.teach(0)
    lessons = pd.read_parquet(first.path / paths.teacher(0)).set_index("id")
    assert f"fold 0: {len(lessons)} votes are taught" in capsys.readouterr().out
    battles = first.battles().set_index("id").loc[lessons.index[:5]]
    with first.inside():
        found = Ensemble(get_experiment("first", tmp_path), [0]).predict(battles)
    expected = (found.ab + found.ba) / 2
    assert lessons[list(SAYS)][:5].to_numpy() == pytest.approx(expected, abs=1e-5)


def test_a_teacher_with_other_folds_is_refused():
    ours = pd.DataFrame({"id": list("abcd"), "group": list("abcd"), "fold": [0, 0, 1, -1]})
    require_same_folds("gemma", ours.sample(frac=1, random_state=0).assign(fold=ours.fold), ours)
    for theirs in (ours.assign(fold=[0, 1, 1, -1]), ours[1:], ours.assign(group=list("xbcd"))):
        with pytest.raises(UserError, match=r"teacher\.from is gemma: expected this run's folds"):
            require_same_folds("gemma", theirs, ours)


def test_a_teacher_without_a_model_of_the_fold_is_refused():
    require_model("gemma", [0, 1], 1)
    with pytest.raises(UserError, match=r"its model of fold 2, .* found those of folds 0, 1"):
        require_model("gemma", [0, 1], 2)


@pytest.mark.parametrize("name", ["nobody", "workspace"])
def test_a_teacher_that_is_no_run_is_named(first, name, capsys):
    first.set_params(teacher={"from": name})
    with pytest.raises(SystemExit):
        first.teach(0)
    assert f"{name} is neither a git revision nor a DVC experiment" in capsys.readouterr().err


def test_a_run_that_is_verified_finds_its_teacher(first, tmp_path):
    first.set_params(teacher={"from": "first"})
    first.commit("A student")
    again = tmp_path / "again"
    commit = resolve("HEAD", first.path)
    clone.checkout(first.path, commit, again)
    clone.bring_teacher(first.path, again)
    with contextlib.chdir(again):
        found = get_experiment("first", tmp_path / "found")
    name = "models/fold-1/adapter_model.safetensors"
    first.dvc("checkout", "--force", "train")
    assert (found / name).read_bytes() == (first.path / name).read_bytes()


def test_files_that_taught_a_teacher_or_its_teacher_are_told(first, capsys):
    """The teacher of fold 0 is a run that a file taught; and then a run that this one taught."""
    write_files(first)
    try:
        first.set_params(teacher={"from": None, "predictions": [{"raw": "teacher.csv"}]})
        first.call(predictions.main, "file0")
        for teaches in ("a file", "its student", "the student's student"):
            for fold in FOLDS:
                first.teach(fold)
            told = "or a teacher of its own, was taught by files of predictions (teacher.csv)"
            assert (told in capsys.readouterr().out) == (teaches != "a file"), teaches
            first.dvc("commit", "--force", "teacher")
            first.commit(f"Taught by {teaches}")
            first.set_params(teacher={"from": "HEAD", "predictions": []})
    finally:
        first.git("checkout", "-q", "first", "--", ".")
        first.dvc("checkout", "--force", *STAGES)


# Files


def write_files(first: Honest) -> pd.DataFrame:
    """Pairs without votes, one on a held-out prompt of fold 0, and predictions; returns battles."""
    battles = first.battles().merge(first.folds(), on="id")
    shared = battles[battles.fold == 0].iloc[0]
    turns = [
        {"id": "p1", "prompt": "Why is the sky blue at noon?"},
        {"id": "p2", "prompt": shared.prompt[0]},
        {"id": "p3", "prompt": "How do birds find their way home?"},
    ]
    pairs = [json.dumps({**t, "response_a": "one", "response_b": f"two {t['id']}"}) for t in turns]
    (first.path / "pairs.jsonl").write_text("\n".join(pairs), encoding="utf-8")
    ids = [*battles.id[10:], "p1", "p2", "stranger"]
    says = np.random.default_rng(0).dirichlet(np.ones(3), size=len(ids)).round(6)
    says[:, 2] = 1 - says[:, :2].sum(axis=1)
    table = pd.DataFrame(says, columns=list(WINNERS)).assign(id=ids)
    table.to_csv(first.path / "teacher.csv", index=False)
    return battles


@pytest.mark.slow
def test_dvc_runs_again_what_depends_on_a_changed_file(first, monkeypatch):
    battles = write_files(first)
    held_out, trained = battles[battles.fold == 0], battles[battles.fold == 1]
    first.set_params(
        teacher={
            "from": None,
            "predictions": [{"raw": "teacher.csv"}],
            "pairs": [{"raw": "pairs.jsonl", "weight": 0.5}],
            "temperature": 2.0,
        }
    )
    printed = first.dvc("repro", "teacher@0")
    without = trained.id.isin(battles.id[:10]).sum()
    assert "whose origin cannot be checked" in printed and "Traceback" not in printed
    for told in (
        f"fold 0: {len(trained) - without} votes are taught",
        f"{without} have no prediction and keep their votes alone",
        "1 pairs without votes are taught; 1 pairs share a held-out prompt and are left out",
        "1 pairs have no prediction and are left out",
        "1 predictions are of ids that are not in use",
    ):
        assert told in printed, printed

    training, out = student_of(first, 0, monkeypatch)
    assert set(out.id) == set(held_out.id) and set(training.id) == {*trained.id, "pairs/p1"}
    pair = training.set_index("id").loc["pairs/p1"]
    assert (pair.fold, pair.source, pair.weight) == (-1, "pairs", 0.5)
    table = pd.read_csv(first.path / "teacher.csv").set_index("id")
    root = np.sqrt(table.loc["p1", list(WINNERS)].to_numpy(dtype=float))
    assert pair[list(TARGETS)].tolist() == pytest.approx(root / root.sum(), abs=1e-5)
    alone = training[training.id.isin(battles.id[:10])]
    assert (targets_of(alone) == alone[list(VOTES)].to_numpy()).all()

    file = first.path / "teacher.csv"
    before = file.read_bytes()
    table.iloc[::-1].to_csv(file)
    first.set_params(teacher={"weight": 0.75})
    status = json.loads(first.dvc("status", "--json", "pairs", "predictions", "teacher@0"))
    assert list(status) == ["predictions@file0"], "the file has changed; the weight is training's"
    file.write_bytes(before)
    pairs = first.path / "pairs.jsonl"
    pairs.write_text(pairs.read_text(encoding="utf-8").replace("one", "1"), encoding="utf-8")
    printed = first.dvc("repro", "teacher@0")
    for stage, runs in (("pairs@file0", True), ("predictions@file0", False), ("teacher@0", True)):
        assert (f"Running stage '{stage}'" in printed) == runs, printed


def test_pairs_are_taught_by_a_run_as_predict_reads_them(first):
    write_files(first)
    first.set_params(teacher={"from": "first", "pairs": [{"raw": "pairs.jsonl"}]})
    first.call(pairs_of.main, "file0")
    first.teach(1)
    lessons = pd.read_parquet(first.path / paths.teacher(1))
    pairs = lessons[lessons.prompt.notna()]
    assert pairs.id.tolist() == ["pairs/p1", "pairs/p2", "pairs/p3"]
    assert pairs.group.isin(first.folds().group).tolist() == [False, True, False]
    assert pairs[list(SAYS)].sum(axis=1).tolist() == pytest.approx([1, 1, 1])
    assert all(list(turns) for name in TURNS for turns in pairs[name])
