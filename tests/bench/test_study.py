"""The rebuilding of docs/results_appendix.md: on made-up runs, and as it is shipped."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import softmax

from bench.study import __main__ as command
from bench.study import document, figures, learning_curve, part, spread
from bench.study.restore import Restored, read_votes, restore
from stages.config.errors import UserError
from tests.support.places import REPO
from tests.support.raw import frame, read
from tests.support.shipped import FOLDS, LOGITS, STARTER, ship
from tests.support.workspace import Workspace

SHIPPED = REPO / "docs/results"


# The document


def test_only_the_bodies_of_generated_parts_are_replaced():
    written = (
        "# Title\n\n<!-- a -->\nold\n\nlines\n<!-- /a -->\ntext\n<!-- b-c -->\n<!-- /b-c -->\n"
    )
    expected = "# Title\n\n<!-- a -->\n1\n<!-- /a -->\ntext\n<!-- b-c -->\n\\1\n<!-- /b-c -->\n"
    rebuilt = document.fill(written, {"b-c": "\\1", "a": "1"})
    assert rebuilt == expected
    assert document.fill(rebuilt, {"a": "1", "b-c": "\\1"}) == rebuilt


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["a", "c"]])
def test_a_document_with_other_parts_is_refused(names):
    written = "<!-- a -->\n<!-- /a -->\n<!-- b -->\n<!-- /b -->\n"
    with pytest.raises(UserError, match=rf"expected .* parts {', '.join(names)}, found a, b"):
        document.fill(written, dict.fromkeys(names, ""))


def test_the_difference_has_the_lines_that_differ_and_no_others():
    assert document.difference("one\ntwo\n", "one\ntwo\n") == ""
    told = document.difference("one\ntwo\nthree\n", "one\n2\nthree\n").splitlines()
    assert {"-two", "+2"} < set(told) and not any("one" in line or "three" in line for line in told)


# Made-up runs


@pytest.fixture(scope="module")
def votes() -> pd.DataFrame:
    return frame(read(STARTER))


@pytest.fixture(scope="module")
def repository(tmp_path_factory, votes) -> Path:
    """A folder with two seeds of gemma, one of llama, and gemma trained on half of the votes."""
    root = tmp_path_factory.mktemp("repository")
    shutil.copy(REPO / "params.yaml", root)
    results = root / "docs/results"
    results.mkdir(parents=True)
    ship(results / "gemma-2", votes, "tiny-gemma", seed=2)
    ship(results / "gemma-10", votes, "tiny-gemma", seed=10)
    ship(results / "gemma-half", votes, "tiny-gemma", seed=3, part=2)
    ship(results / "llama", votes, "tiny-llama", seed=2, skill=0.1)
    for name in ("tuning.csv", "tuning_offset.csv", "changes.csv", "probes.csv"):
        shutil.copy(SHIPPED / name, results)
    parts = document.BLOCK.findall((REPO / "docs/results_appendix.md").read_text(encoding="utf-8"))
    empty = "\n".join(f"<!-- {name} -->\n<!-- /{name} -->" for name, _ in parts)
    (root / "docs/results_appendix.md").write_text(empty, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def restored(repository) -> Restored:
    return restored_in(repository / "docs/results")


@pytest.fixture
def copy(repository, tmp_path, monkeypatch) -> Path:
    """The working folder: a copy that a test may harm, with few draws of the learning curve."""
    copied = shutil.copytree(repository, tmp_path / "repository")
    monkeypatch.chdir(copied)
    monkeypatch.setattr(learning_curve, "PARTS", (2, 1))
    monkeypatch.setattr(learning_curve, "DRAWS", 2)
    return copied


def restored_in(results: Path) -> Restored:
    return restore(results, read_votes(results, STARTER))


def plain_log_loss(runs: list[Path], votes: pd.DataFrame) -> float:
    """Of the mean of the runs' probabilities in both orders, without the project's code."""
    rows = [votes.merge(pd.read_parquet(run / "predictions.parquet"), on="id") for run in runs]
    orders = [softmax(r[c].to_numpy(float), axis=1) for r in rows for c in (LOGITS[:3], LOGITS[3:])]
    return -np.log(np.mean(orders, axis=0)[np.arange(len(votes)), votes.label]).mean()


def run_command(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["bench.study", str(STARTER), *arguments])
    command.main()


@pytest.mark.slow
def test_what_was_written_is_confirmed_and_a_changed_figure_is_not(copy, monkeypatch, capsys):
    page = Path("docs/results_appendix.md")
    run_command(monkeypatch, "--write")
    for name in ("docs/results/ladder.svg", "docs/results/gemma-half/metrics.json"):
        assert Path(name).stat().st_size
    run_command(monkeypatch)
    written = page.read_text(encoding="utf-8")
    figure = re.search(r"class prior \| (\d\.\d{4})", written)[1]
    changed = written.replace(f"prior | {figure}", "prior | 0.0000", 1)
    page.write_text(changed, encoding="utf-8")
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        run_command(monkeypatch)
    told = capsys.readouterr().err
    assert "\n-| class prior | 0.0000 |" in told and f"\n+| class prior | {figure} |" in told
    assert told.count("\n-|") == told.count("\n+|") == 1


def test_changed_predictions_change_the_figures(copy, restored):
    path = Path("docs/results/llama/predictions.parquet")
    table = pd.read_parquet(path)
    table.loc[0, "ab_a"] += 5
    table.to_parquet(path, index=False)
    changed = restored_in(Path("docs/results"))
    assert figures.ladder(changed.combinations) != figures.ladder(restored.combinations)


# Seeds


def test_seeds_are_one_combination_and_fewer_votes_are_its_smaller_run(restored):
    worst, best = restored.combinations
    assert (worst.name, best.name) == ("llama", "gemma")
    assert [run.name for run in best.seeds] == ["gemma-2", "gemma-10"]
    assert [run.name for run in best.smaller[2]] == ["gemma-half"] and list(best.smaller) == [2]
    assert worst.averaged is worst.seeds[0] and not worst.smaller
    assert len(best.averaged.folds) == len(best.averaged.curves) == 2 * FOLDS


def test_the_ladder_has_each_seed_alone_and_their_mean_prediction(restored, repository, votes):
    results = repository / "docs/results"
    two = [results / "gemma-2", results / "gemma-10"]
    each = [plain_log_loss([run], votes) for run in two]
    mean, least, most = np.mean(each), min(each), max(each)
    rows = figures.ladder(restored.combinations).splitlines()
    (gemma,) = (row for row in rows if row.startswith("| **gemma** |"))
    (llama,) = (row for row in rows if row.startswith("| **llama** |"))
    assert f"| {mean:.4f} [{least:.4f}, {most:.4f}] | {plain_log_loss(two, votes):.4f} |" in gemma
    assert f"| {plain_log_loss([results / 'llama'], votes):.4f} | |" in llama
    assert len(rows) == 2 + 5 + 2, "the run on half of the votes is not in the ladder"


def test_the_verdict_is_on_both_backbones_with_all_their_seeds(restored):
    told = figures.verdicts(restored.combinations)
    assert told.startswith("- classify: **better**. tiny-gemma is better than tiny-llama: its log")


def test_backbones_are_also_compared_by_the_seeds_that_nothing_was_chosen_with(
    restored, monkeypatch
):
    assert "seeds" not in figures.pairs(restored.combinations)
    monkeypatch.setattr(figures, "TUNED_SEED", 2)
    assert "seeds" not in figures.pairs(restored.combinations), "llama has no other"
    llama, gemma = restored.combinations
    twin = replace(gemma, averaged=llama.averaged)
    assert "| gemma − gemma, seeds 10 |" in figures.pairs([twin, gemma])


def test_the_learning_curve_has_the_backbone_that_was_trained_on_fewer_votes(
    copy, restored, repository, votes
):
    rows = learning_curve.learning_curve(restored).splitlines()
    (row,) = (row for row in rows if row.startswith("| gemma |"))
    half = plain_log_loss([repository / "docs/results/gemma-half"], votes)
    full = np.mean([run.metrics["log_loss"] for run in restored.combinations[1].seeds])
    assert row.startswith(f"| gemma | {half:.4f} | {full:.4f} ± ")
    assert not any(row.startswith("| llama") for row in rows)


def test_a_part_of_the_votes_is_trained_on_and_shipped(tmp_path, tiny, battles, monkeypatch):
    workspace = Workspace(tmp_path, tiny(), battles)
    monkeypatch.chdir(workspace.path)
    monkeypatch.setenv("DVC_ROOT", str(workspace.path))
    monkeypatch.setattr("sys.argv", ["bench.study.part", "2", "results/tiny-half"])
    part.main()
    shipped = Path("results/tiny-half")
    predicted = pd.read_parquet(shipped / "predictions.parquet")
    assert sorted(predicted.id) == sorted(battles.id) and set(predicted.fold) == {0, 1}
    summaries = json.loads((shipped / "folds.json").read_text(encoding="utf-8"))
    folds = pd.read_parquet("data/folds/folds.parquet").fold
    assert [s["examples"] for s in summaries] == [round((folds != k).sum() / 2) for k in (0, 1)]
    assert (shipped / "params.yaml").read_text() == Path("params.yaml").read_text()


# The folds that nothing was chosen on


def test_figures_without_the_tuned_fold_are_of_the_other_folds_votes(restored, repository, votes):
    theirs = votes[np.arange(len(votes)) % FOLDS != figures.TUNED_FOLD]
    expected = plain_log_loss([repository / "docs/results/llama"], theirs.reset_index(drop=True))
    (row,) = (r for r in figures.ladder(restored.combinations).splitlines() if "**llama**" in r)
    assert row.endswith(f"| {expected:.4f} | |")


# What is refused


@pytest.mark.parametrize(("divisor", "told"), [("0", "found 0"), ("2", "dvc repro prepare split")])
def test_a_part_that_cannot_be_trained_is_explained(tmp_path, monkeypatch, capsys, divisor, told):
    monkeypatch.chdir(tmp_path)
    shutil.copy(REPO / "params.yaml", tmp_path)
    monkeypatch.setattr("sys.argv", ["bench.study.part", divisor, "there"])
    with pytest.raises(SystemExit, match="1"):
        part.main()
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_the_spread_is_of_two_backbones_that_are_there(copy, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench.study.spread", str(STARTER), "gemma", "llama"])
    spread.main()
    assert "fold effect" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["bench.study.spread", str(STARTER), "gemma", "phi"])
    with pytest.raises(SystemExit, match="1"):
        spread.main()
    assert "expected two of gemma, llama, found gemma and phi" in capsys.readouterr().err


def test_votes_that_lack_some_of_the_runs_are_refused(repository, tmp_path):
    some = tmp_path / "some.csv"
    pd.read_csv(STARTER, dtype=str).iloc[5:].to_csv(some, index=False)
    with pytest.raises(UserError, match=r"some.csv: expected the 490 votes .* found 485 of them"):
        read_votes(repository / "docs/results", some)


@pytest.mark.parametrize("lacks_a_fold", [True, False])
def test_a_run_in_other_folds_is_refused(copy, lacks_a_fold):
    path = Path("docs/results/llama/predictions.parquet")
    table = pd.read_parquet(path)
    moved = table.assign(fold=(table.fold + 1) % FOLDS)
    (table[table.fold != 1] if lacks_a_fold else moved).to_parquet(path, index=False)
    with pytest.raises(UserError, match=r"llama: expected a prediction of each of the 490 votes"):
        restored_in(Path("docs/results"))


def test_a_run_on_two_thirds_of_the_votes_is_neither_a_seed_nor_a_part(copy):
    path = Path("docs/results/gemma-10/folds.json")
    summaries = json.loads(path.read_text(encoding="utf-8"))
    text = json.dumps([summary | {"examples": 134} for summary in summaries])
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"gemma-10: expected .* found 402"):
        restored_in(Path("docs/results"))


def test_a_seed_that_is_there_twice_is_refused(copy):
    shutil.copytree("docs/results/llama", "docs/results/llama-again")
    with pytest.raises(
        UserError, match=r"each seed once, found: llama and llama-again are the same"
    ):
        restored_in(Path("docs/results"))


def test_a_run_that_was_shown_the_counts_stands_for_itself(copy):
    path = Path("docs/results/gemma-10/params.yaml")
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["prompt"]["counts"] = True
    path.write_text(yaml.safe_dump(params), encoding="utf-8")
    found = restored_in(Path("docs/results")).combinations
    assert sorted(c.way for c in found) == [
        "classify",
        "classify",
        "classify, counts in the prompt",
    ]
    assert "- classify: **better**" in figures.verdicts(found)
    assert "counts" not in figures.verdicts(found), "there is nothing to compare it with"
    given = [row.split(" | ")[3] for row in figures.trained(found).splitlines()]
    assert given[0] == "given length and format" and "counts in the prompt" in given[2:]


def test_runs_that_were_trained_otherwise_are_no_seeds(copy):
    path = Path("docs/results/gemma-10/params.yaml")
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["train"]["optimizer"]["max_grad_norm"] = 5.0
    path.write_text(yaml.safe_dump(params), encoding="utf-8")
    found = restored_in(Path("docs/results")).combinations
    assert sorted(len(c.seeds) for c in found) == [1, 1, 1]
    clipped = [row.split(" | ")[-2] for row in figures.trained(found).splitlines()]
    assert clipped[0] == "gradients clipped at" and sorted(clipped[2:]) == ["1", "1", "5"]


# What is shipped


def test_shipped_predictions_are_numbers_by_id_and_name_no_path():
    shipped = list(SHIPPED.glob("*/predictions.parquet"))
    assert shipped
    for path in shipped:
        table = pd.read_parquet(path)
        assert set(table) == {"id", "fold", "tokens", "tokens_dropped", *LOGITS}
        assert all(pd.api.types.is_numeric_dtype(table[name]) for name in table.columns[1:])
        assert table.id.str.fullmatch(r"\d+").all()
    for path in (path for path in SHIPPED.rglob("*") if path.suffix in (".json", ".yaml", ".csv")):
        text = path.read_text(encoding="utf-8")
        assert not any(f"{folder}/" in text for folder in ("/work", "/root", "/tmp", "/home")), path


def test_shipped_metrics_are_those_of_the_shipped_predictions(real_votes):
    votes = frame(read(real_votes))
    runs = [path.parent for path in SHIPPED.glob("*/metrics.json")]
    assert runs
    for run in runs:
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        assert metrics["log_loss"] == pytest.approx(plain_log_loss([run], votes), abs=1e-6)
