"""The rebuilding of docs/results.md: pooled and blended predictions, and what is shipped."""

import json

import numpy as np
import pytest

from bench.study import elsewhere, fp8
from bench.study.restore import read_votes, restore
from stages.config.errors import UserError
from tests.support.places import REAL_VOTES, REPO
from tests.support.raw import frame, read
from tests.support.shipped import STARTER, ship

SHIPPED = REPO / "docs/results/elsewhere"


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    results, votes = tmp_path_factory.mktemp("results"), frame(read(STARTER))
    ship(results / "gemma-auto-j-1", votes, "tiny-gemma", seed=1)
    ship(results / "gemma-auto-j-2", votes, "tiny-gemma", seed=2)
    ship(results / "llama-auto-j-1", votes, "tiny-llama", seed=1, skill=0.1)
    return restore(results, read_votes(results, STARTER))


def test_a_blend_counts_each_backbone_once_and_pooling_is_half_and_half(restored):
    found = {p.name: p for p in elsewhere.predictions(restored)}
    blend, gemma, llama = (
        np.mean([np.log(q) for q in found[name].probabilities], axis=0)
        for name in ("blend of all", "gemma-auto-j", "llama-auto-j")
    )
    mean = np.exp((_normalised(gemma) + _normalised(llama)) / 2)
    assert np.exp(blend) == pytest.approx(mean / mean.sum(axis=1, keepdims=True))
    counts = np.log(restored.runs[0].probabilities("counts"))
    pooled = np.exp((blend + counts) / 2)
    name = "blend of all, pooled with length and format"
    assert found[name].probabilities[0] == pytest.approx(pooled / pooled.sum(axis=1, keepdims=True))
    assert found["blend of all"].seeds == 3


def test_an_entry_has_gains_with_both_intervals(restored):
    found = elsewhere.entry(elsewhere.predictions(restored)[0], restored.runs[0])
    for name in ("gain_over_counts", "gain_over_tfidf_counts"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
        assert found[f"{name}_low_over_folds"] < found[name] < found[f"{name}_high_over_folds"]


def test_a_figure_that_differs_is_told(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("1.0\n")
    with pytest.raises(elsewhere.UserError, match=r"(?s)page\.md differs:.*-1\.0\n\+1\.1"):
        elsewhere._settle(path, "1.1\n", write=False)


def test_the_shipped_summary_has_every_run(restored):
    entries = json.loads((REPO / "docs/results/summary.json").read_text(encoding="utf-8"))
    named = {entry["name"] for entry in entries}
    for run in SHIPPED.glob("*/*"):
        assert run.name.rstrip("0123456789").rstrip("-") in named


def test_fp8_stands_beside_the_training_of_the_same_seed(tmp_path):
    votes = frame(read(STARTER))
    for seed in (1, 2):
        ship(tmp_path / f"plain/gemma-sft-auto-j-{seed}", votes, "tiny-gemma", seed=seed)
    ship(tmp_path / "fp8/gemma-sft-fp8-auto-j-2", votes, "tiny-gemma", seed=2)
    others = restore(tmp_path / "plain", read_votes(tmp_path / "plain", STARTER))
    said, (found,) = fp8.table(tmp_path / "fp8", others)
    assert found["log_loss"] == found["log_loss_without_fp8"], "seed 2 has these very predictions"
    assert "| gemma-sft-fp8-auto-j | 1 | " in said and said.endswith("| +0.0000 | +0.0000 |")
    ship(tmp_path / "fp8/llama-sft-fp8-auto-j-1", votes, "tiny-llama", seed=1)
    with pytest.raises(UserError, match="llama-sft-auto-j-1 is not beside it"):
        fp8.table(tmp_path / "fp8", others)


@pytest.mark.slow
def test_the_documents_figures_are_those_of_the_shipped_predictions(monkeypatch):
    others = [
        REAL_VOTES.with_name(name)
        for name in ("autoj_testdata_pairwise.jsonl.gz", "hh_harmless_test.jsonl.gz")
    ]
    if not all(path.exists() for path in others):
        pytest.skip("needs the real votes")
    monkeypatch.chdir(REPO)
    monkeypatch.setattr("sys.argv", ["bench.study.elsewhere", *map(str, [REAL_VOTES, *others])])
    elsewhere.main()


def _normalised(logs: np.ndarray) -> np.ndarray:
    return logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
