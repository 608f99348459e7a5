"""Ratings of models: from made-up votes whose truth is known, from predictions, and as a page."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from stages import ratings as command
from stages.config.errors import UserError
from stages.config.params import load
from stages.pages.ratings import write_ratings
from stages.ranking.bradley_terry import DEVIATION, PER_LOGIT, bootstrap, design, points
from stages.ranking.predicted import predicted_wins
from stages.ranking.rated import rated
from stages.ranking.ratings import Settings, rate
from stages.ranking.reading import read
from stages.ranking.words import text
from stages.votes.accounts import prepare
from stages.votes.battles import write
from stages.votes.rows import WINNERS
from tests.support.places import REPO
from tests.support.raw import settings
from tests.support.runs import write_run

TRUE = {"strong": 150.0, "good": 50.0, "fair": -50.0, "weak": -150.0}
SETTINGS = Settings(least=30, draws=100, confidence=0.95, seed=0)


def make_battles(n: int, length: float = 0.0, longer: str = "weak", seed: int = 0) -> pd.DataFrame:
    """Battles between the models of TRUE; a fifth are ties.

    Args:
        length: points for an answer that is longer by a standard deviation.
        longer: the model that writes three times as much as the others.
    """
    rng = np.random.default_rng(seed)
    names = np.array(list(TRUE))
    a = rng.integers(4, size=n)
    b = (a + rng.integers(1, 4, size=n)) % 4
    words = [rng.integers(10, 100, size=n) * np.where(names[i] == longer, 3, 1) for i in (a, b)]
    ratio = np.log(words[0] / words[1])
    strength = np.array(list(TRUE.values()))
    gap = strength[a] - strength[b] + length * ratio / ratio.std()
    wins = (rng.random(n) < expit(gap / PER_LOGIT)).astype(float)
    tied = rng.random(n) < 0.2
    return pd.DataFrame(
        {
            "id": [str(i) for i in range(n)],
            "model_a": names[a],
            "model_b": names[b],
            "prompt": [[f"question {i}"] for i in range(n)],
            "response_a": [["word " * count] for count in words[0]],
            "response_b": [["word " * count] for count in words[1]],
            "weight": 1.0,
            "group": [f"group {i}" for i in range(n)],
            "wins": np.where(tied, 0.5, wins),
            "expected": expit(gap / PER_LOGIT),
        }
    )


def rate_battles(battles: pd.DataFrame) -> dict:
    return rate(rated(battles, "votes", SETTINGS.least), SETTINGS)


def by_model(document: dict, name: str = "votes") -> dict[str, dict]:
    return {row["model"]: row[name] for row in document["models"]}


# The ratings


def test_ratings_are_those_of_a_logistic_regression():
    battles, models = make_battles(400), sorted(TRUE)
    inputs = design(battles, models, pd.DataFrame({"style": np.linspace(-2, 2, 400)}))
    weights = np.linspace(0.5, 2, 400)
    wins = battles.expected.to_numpy()
    found = points(inputs, wins, weights)
    other = LogisticRegression(C=DEVIATION**2, fit_intercept=False, tol=1e-10, max_iter=1000)
    parts = np.concatenate([weights * wins, weights * (1 - wins)])
    other.fit(np.vstack([inputs, inputs]), np.repeat([1, 0], 400), parts)
    assert found == pytest.approx(other.coef_[0] * PER_LOGIT, abs=0.05)
    assert found[:4].sum() == pytest.approx(0, abs=1e-6)


def test_the_order_of_the_models_is_found_and_who_leads():
    document = rate_battles(make_battles(3000))
    found = by_model(document)
    assert list(found) == list(TRUE)
    assert [rating["rank"] for rating in found.values()] == [1, 2, 3, 4]
    assert np.mean([rating["rating"] for rating in found.values()]) == pytest.approx(1000)
    assert "strong is rated highest" in text(document)


def test_intervals_hold_the_truth_as_often_as_they_say():
    battles, models = make_battles(300), sorted(TRUE)
    inputs, truth = design(battles, models, battles[[]]), [TRUE[model] for model in models]
    held = []
    for seed in range(20):
        wins = np.random.default_rng(seed).random(300) < battles.expected.to_numpy()
        drawn = bootstrap(inputs, wins, np.ones(300), np.arange(300), 100, seed, "votes")
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        held.append((low <= truth) & (truth <= high))
    assert 0.85 <= np.mean(held) <= 0.99


def test_models_that_always_tie_are_equal_and_share_the_first_rank():
    document = rate_battles(make_battles(300).assign(wins=0.5))
    found = by_model(document)
    assert {round(rating["rating"]) for rating in found.values()} == {1000}
    assert {rating["rank"] for rating in found.values()} == {1}
    assert "4 models share the first rank" in text(document)


def test_a_model_that_wins_all_has_a_finite_rating():
    battles = make_battles(300)
    won = battles.assign(
        wins=battles.wins.mask(battles.model_a == "strong", 1).mask(battles.model_b == "strong", 0)
    )
    best = by_model(rate_battles(won))["strong"]
    assert 1300 < best["low"] <= best["rating"] <= best["high"] < 3000


def test_a_model_that_wins_by_length_alone_is_no_better_with_style_held_constant():
    document = rate_battles(make_battles(3000, length=250, longer="weak"))
    plain, style = by_model(document), by_model(document, "votes_style")
    assert plain["weak"]["rating"] > 1000 > style["weak"]["high"]
    assert style["weak"]["rating"] == pytest.approx(1000 + TRUE["weak"], abs=60)
    effect = document["style"]["votes"]["chars"]
    assert 150 < effect["low"] < effect["points"] < effect["high"] < 350
    assert f"{effect['points']:+.0f} points" in text(document)


def test_answers_of_one_length_and_format_have_no_style():
    same = [["as long"]] * 300
    document = rate_battles(make_battles(300).assign(response_a=same, response_b=same))
    assert document["style"]["votes"] == {}
    assert by_model(document) == by_model(document, "votes_style")
    assert "equally long" in text(document)


def test_votes_on_one_prompt_are_drawn_together():
    """Four copies of each vote say no more than one."""
    once = make_battles(200)
    four = pd.concat([once] * 4)

    def spread(battles: pd.DataFrame, groups: np.ndarray) -> float:
        inputs = design(battles, sorted(TRUE), battles[[]])
        wins, weights = battles.wins.to_numpy(), battles.weight.to_numpy()
        return bootstrap(inputs, wins, weights, groups, 300, 0, "votes").std(axis=0).mean()

    known = spread(once, once.group.to_numpy())
    assert spread(four, four.group.to_numpy()) == pytest.approx(known, rel=0.1)
    assert spread(four, np.arange(800)) == pytest.approx(known / 2, rel=0.15)


def test_sure_predictions_of_the_truth_are_rated_like_the_votes():
    battles = make_battles(2000)
    document = rate_battles(battles.assign(predicted=battles.expected))
    (pair,) = (
        p for p in document["rank_correlation"] if (p["a"], p["b"]) == ("votes", "predicted")
    )
    assert pair["spearman"] == pair["kendall"] == pytest.approx(1)
    for model, rating in by_model(document, "predicted").items():
        assert rating["rating"] == pytest.approx(1000 + TRUE[model], abs=1)
    turned = rate_battles(battles.assign(predicted=1 - battles.expected))
    assert turned["rank_correlation"][1]["spearman"] == pytest.approx(-1)


# What is left out, and what is refused


def test_a_model_with_few_votes_is_named_with_their_number_and_its_votes_are_left_out():
    battles = make_battles(300)
    rare = battles.iloc[:7].assign(model_a="rare")
    known = rated(pd.concat([battles, rare]), "votes", 30)
    assert known.few == {"rare": 7} and known.left_out["of_a_model_with_few_votes"] == 7
    assert known.models == sorted(TRUE)
    assert "rare (7)" in text(rate(known, SETTINGS))


def test_votes_with_models_that_have_few_do_not_count():
    """The model `edge` has 30 votes, of which 25 are with models that have five each."""
    battles = make_battles(300)
    edge = battles.iloc[:30].assign(model_a="edge")
    edge["model_b"] = [f"rare {i // 5}" for i in range(25)] + ["strong"] * 5
    assert rated(pd.concat([battles, edge]), "votes", 30).few["edge"] == 30


def test_models_that_never_met_are_refused_by_name():
    battles = make_battles(300)
    other = battles.assign(model_a="left " + battles.model_a, model_b="left " + battles.model_b)
    with pytest.raises(UserError, match=r"2 groups .*\(fair, good, strong, weak\); \(left fair"):
        rated(pd.concat([battles, other]), "votes", 30)


def test_votes_without_model_names_are_left_out_and_refused_if_none_has_them():
    battles = make_battles(300)
    nameless = battles.assign(model_a=None, model_b=None)
    assert rated(pd.concat([battles, nameless]), "v", 30).left_out["without_model_names"] == 300
    with pytest.raises(UserError, match=r"v: .* columns model_a and model_b .* none of 300 votes"):
        rated(nameless, "v", 30)


def test_too_few_votes_are_refused():
    with pytest.raises(UserError, match=r"two models or more with 500 .*lower --min-votes"):
        rated(make_battles(300), "votes", 500)


# The command


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a file of votes and one of predictions, in which the command is run."""
    shutil.copy(REPO / "params.yaml", tmp_path)
    battles = make_battles(400)
    shares = np.column_stack([battles.wins == 1, battles.wins == 0, battles.wins == 0.5])
    votes = battles[["id", "model_a", "model_b"]].assign(
        **{name: battles[name].map(json.dumps) for name in ("prompt", "response_a", "response_b")},
        **dict(zip(WINNERS, shares.astype(int).T, strict=True)),
    )
    votes.to_csv(tmp_path / "votes.csv", index=False)
    predicted = pd.DataFrame({"id": battles.id, "a": battles.expected, "b": 1 - battles.expected})
    predicted.assign(tie=0.0).to_csv(tmp_path / "predicted.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["ratings", *arguments, "--draws", "20"])
    command.main()


def test_the_command_prints_ratings_and_writes_them_and_a_page(folder, monkeypatch, capsys):
    run(monkeypatch, "votes.csv", "--predictions", "predicted.csv")
    printed = capsys.readouterr().out
    document = json.loads((folder / "metrics/ratings.json").read_text(encoding="utf-8"))
    best = document["models"][0]
    assert f"{best['model']} " in printed.splitlines()[2]
    assert f"{best['votes']['rating']:.0f} [" in printed.splitlines()[2]
    assert document["battles"] == 400 and "400 votes between 4 models" in printed
    html = (folder / "metrics/ratings.html").read_text(encoding="utf-8")
    assert html.count("<svg") == 2 * (4 + 1 + 2)  # ratings, both, style; each wide and narrow
    for row in document["models"]:
        assert row["model"] in html and f"{row['votes_style']['rating']:.0f}" in html


def test_without_predictions_there_are_ratings_from_votes_alone(folder, monkeypatch, capsys):
    run(monkeypatch, "votes.csv", "--output", "mine.json")
    document = json.loads((folder / "mine.json").read_text(encoding="utf-8"))
    assert set(document["models"][0]) == {"model", "battles", "votes", "votes_style"}
    html = (folder / "mine.html").read_text(encoding="utf-8")
    assert "predictions" not in html and "predictions" not in capsys.readouterr().out


def test_a_file_of_logits_in_both_orders_is_read_as_training_writes_it(folder):
    logits = {f"{order}_{label}": [2.0] for order in ("ab", "ba") for label in ("a", "b", "tie")}
    pd.DataFrame({"id": ["7"], **logits, "ab_a": [2.0 + np.log(4)]}).to_parquet("fold-0.parquet")
    assert predicted_wins("fold-0.parquet")["7"] == pytest.approx((5 / 6 * 0.9 + 0.5) / 2)


def test_a_run_s_out_of_fold_predictions_are_rated(folder, monkeypatch):
    write_run(folder / "run")
    wins = predicted_wins("run")
    rows = pd.read_parquet(folder / "run/data/evaluated/out_of_fold.parquet").set_index("id")
    assert len(wins) == 240
    assert wins["id-3"] == pytest.approx(rows.backbone_a["id-3"] + rows.backbone_tie["id-3"] / 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["votes.csv", "--predictions", "run"], "found none of their 400 ids"),
        (["votes.csv", "--predictions", "nowhere.csv"], "nowhere.csv is no file"),
        (["predicted.csv"], "predicted.csv has no known layout"),
        ([], "run `dvc repro prepare` first"),
    ],
)
def test_what_cannot_be_rated_is_refused_in_words(folder, monkeypatch, capsys, arguments, words):
    write_run(folder / "run")
    with pytest.raises(SystemExit):
        run(monkeypatch, *arguments)
    assert words in capsys.readouterr().err


def test_the_votes_of_prepare_are_rated_without_those_that_are_only_trained_on(
    folder, monkeypatch, capsys
):
    table = prepare(settings(folder / "votes.csv"), settings(folder / "votes.csv"), 0).battles
    frame = table.to_pandas()
    write(pa.Table.from_pandas(frame.assign(training_only=frame.index < 100), table.schema))
    run(monkeypatch)
    assert "300 votes between 4 models" in capsys.readouterr().out


# The page


HOSTILE = "<script>window.hacked = 1</script>" + "x" * 60  # the name of a model


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory) -> Path:
    page = tmp_path_factory.mktemp("page") / "page.html"
    battles = make_battles(300).replace("weak", HOSTILE)
    document = rate_battles(battles.assign(predicted=battles.expected))
    write_ratings(document, "<b>votes</b>", "run", page)
    return page


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_fits_a_phone_and_holds_names_as_text(browser, hostile_page, theme):
    context = browser.new_context(color_scheme=theme, viewport={"width": 360, "height": 780})
    tab = context.new_page()
    tab.goto(hostile_page.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    assert tab.evaluate("document.scripts.length") == 0
    cells = tab.evaluate("[...document.querySelectorAll('td')].map(e => e.textContent)")
    assert HOSTILE in cells
    assert "<b>votes</b>" in tab.evaluate("document.querySelector('.facts').textContent")
    context.close()


# Real votes


def test_real_votes_rate_the_strongest_models_of_their_time_highest(real_votes, tmp_path, capsys):
    battles, place = read(real_votes, load(REPO / "params.yaml"))
    known = rated(battles, place, 30)
    assert known.left_out["without_model_names"] == 488 and len(known.models) == 39
    best = [row["model"] for row in rate(known, replace(SETTINGS, draws=10))["models"][:4]]
    assert best[0] == "gpt-4-1106-preview" and all(name.startswith("gpt-4") for name in best)
