"""The report page: what it shows, and what it looks like in a real browser."""

import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from stages.comparison.compare import compare
from stages.config.paths import REPORT
from stages.pages import charts, examples, figures, page, tables
from stages.report import main
from stages.runs import finished
from stages.scoring.baselines import TITLES
from stages.votes.labels import LABELS
from stages.votes.rows import TURNS
from tests.support.places import REPO
from tests.support.runs import leave_unknown, make_votes, write_run
from tests.support.settings import raw_params

SVG = "{http://www.w3.org/2000/svg}"
CHECKPOINTS = {"llama": "tiny-llama", "gemma": "tiny-gemma"}
HOSTILE = [
    '</div></article><script>window.hacked = "text"</script>',
    '<img src="x" onerror="window.hacked = 1"><iframe src="http://example.invalid/"></iframe>',
    "\u202e drawkcab \u202d\u2067 אבג \u0000\u200b\ufeff\u2028",
    "{{ 7 * 7 }} {% raw %} ${window.hacked = 2} <!-- ]]> &lt;b&gt;",
    "x" * 100_000,
    "\n" * 50_000 + "<svg onload=window.hacked=3>" * 2000,
    "Z\u0335\u0327\u0300\u0310\u0352\u0345" * 2000,
    "<style>* { display: none }</style><base href='http://example.invalid/'>",
]


CHART_TEXTS = """
    [...document.querySelectorAll('svg text')].filter(e => e.getClientRects().length).map(e => {
        const svg = e.ownerSVGElement, box = e.getBoundingClientRect(), style = getComputedStyle(e)
        const scale = svg.clientWidth / svg.viewBox.baseVal.width
        const inside = box.left >= -1 && box.right <= innerWidth + 1
        return {size: parseFloat(style.fontSize) * scale, ink: style.fill, inside: inside}
    })
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[finished.Result]:
    """A backbone that has learned and one that has not, on the same votes."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "llama", CHECKPOINTS["llama"], skill=1.0)
    write_run(folder / "gemma", CHECKPOINTS["gemma"], skill=0.0, seed=1, model="gemma")
    return [finished.read(folder / name, name) for name in CHECKPOINTS]


@pytest.fixture
def run_of_other_votes(tmp_path) -> finished.Result:
    return finished.read(write_run(tmp_path / "few", skill=1.0, rows=120), "few")


def comparison(runs: list[finished.Result], **changes: object) -> dict:
    """What stages.compare says of the runs, made up."""
    interval = {"difference": -0.2, "low": -0.3, "high": -0.1}
    keys = ["log_loss", "learned", "n_rows"]
    pairs = [
        {
            "a": a.name,
            "b": b.name,
            "verdict": "better",
            "sentence": f"{a.checkpoint} is better than {b.checkpoint}.",
            **interval,
            "folds": interval,
            "p_value": 0.001,
            "p_value_holm": 0.002,
            "mcnemar_p": 0.0345,
            "accuracy_difference": 0.21,
            "classes": {name: {"rows": 80, **interval} for name in ("a", "b", "tie")},
            "slices": [{"slice": "turns", "value": "one", "rows": 210, **interval}],
        }
        for a, b in itertools.pairwise(runs)
    ]
    told = [
        {
            "name": run.name,
            "checkpoint": run.checkpoint,
            **{key: run.metrics[key] for key in keys},
            "reference": "class prior",
            "to_beat": run.to_beat,
            **dict(zip(("gain", "gain_low", "gain_high"), run.gain, strict=True)),
        }
        for run in runs
    ]
    return {
        "verdict": "invalid",
        "sentence": "Nothing follows from <i>these</i> 240 rows.",
        "reasons": ["tiny-gemma has not learned", "rows differ"],
        "warnings": ["training loss ranks them the other way"],
        "runs": told,
        "pairs": pairs,
        "delta": 0.005,
        "confidence": 0.95,
        "look": {"sentences": []},
        **changes,
    }


def hostile(run: finished.Result) -> finished.Result:
    """The same run with a hostile checkpoint, gate and path of votes."""
    folds = json.loads(json.dumps(run.folds))
    for fold in folds:
        fold["checkpoint"]["checkpoint"] += HOSTILE[1]
        fold["gates"][0]["value"] = HOSTILE[0]
    params = run.params | {"data": {"raw": HOSTILE[0] + "y" * 300}}
    return finished.Result(**{**vars(run), "folds": folds, "params": params})


def hostile_texts() -> pd.DataFrame:
    votes = make_votes(240)
    for place, name in enumerate(TURNS):
        votes[name] = [
            [HOSTILE[(i + place + turn) % len(HOSTILE)] for turn in range(len(turns))]
            for i, turns in enumerate(votes[name])
        ]
    return votes


@pytest.fixture(scope="module")
def hostile_pages(runs, tmp_path_factory) -> dict[str, Path]:
    """A page of one run and one of a comparison, both full of hostile texts."""
    folder, texts = tmp_path_factory.mktemp("hostile"), hostile_texts()
    bad = [hostile(run) for run in runs]
    page.write_run(bad[0], texts, folder / "run.html")
    told = comparison(bad, sentence=HOSTILE[0], reasons=HOSTILE[:4], warnings=HOSTILE[:4])
    page.write_comparison(bad, told, texts, folder / "comparison.html")
    return {name: folder / f"{name}.html" for name in ("run", "comparison")}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["run", "comparison"])
def test_hostile_texts_run_nothing_and_break_nothing(browser, hostile_pages, name, theme):
    context = browser.new_context(color_scheme=theme, viewport={"width": 360, "height": 780})
    tab, heard, asked = context.new_page(), [], []
    for event in ("console", "pageerror", "dialog"):
        tab.on(event, lambda found: heard.append(str(found)))
    tab.on("request", lambda request: asked.append(request.url))
    url = hostile_pages[name].as_uri()
    tab.goto(url)
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.wait_for_timeout(200)
    assert tab.evaluate("window.hacked") is None
    assert heard == []
    assert [address for address in asked if not address.startswith("data:")] == [url]
    assert (
        tab.evaluate("document.scripts.length + document.querySelectorAll('iframe, img').length")
        == 0
    )
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    shown = tab.evaluate("[...document.querySelectorAll('article .text')].map(e => e.textContent)")
    assert any("<script>window.hacked" in text for text in shown)
    assert (
        tab.evaluate("getComputedStyle(document.querySelector('.text')).unicodeBidi") == "isolate"
    )
    # What follows the texts is still where it belongs.
    assert tab.evaluate("document.querySelector('#made').closest('article')") is None
    context.close()


def test_pages_with_huge_answers_stay_below_5_mb(runs, tmp_path, hostile_pages):
    many = [*runs, *(finished.Result(**vars(run) | {"name": f"{run.name} again"}) for run in runs)]
    texts = make_votes(240)
    texts["response_a"] = [["\U0001f600" * 25_000] * len(turns) for turns in texts.prompt]
    texts["response_b"] = [["\"<&>'" * 20_000] * len(turns) for turns in texts.prompt]
    page.write_comparison(many, comparison(many), texts, tmp_path / "many.html")
    for path in (tmp_path / "many.html", *hostile_pages.values()):
        assert path.stat().st_size < 5_000_000


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_charts_are_read_on_a_phone_in_both_themes(browser, runs, tmp_path, theme):
    page.write_comparison(runs, comparison(runs), make_votes(240), tmp_path / "page.html")
    context = browser.new_context(color_scheme=theme, viewport={"width": 360, "height": 780})
    tab = context.new_page()
    tab.goto((tmp_path / "page.html").as_uri())
    texts = tab.evaluate(CHART_TEXTS)
    assert len(texts) > 50
    assert min(text["size"] for text in texts) >= 11
    assert {text["ink"] for text in texts} == {
        tab.evaluate("getComputedStyle(document.body).color")
    }
    assert all(text["inside"] for text in texts)
    context.close()


def test_the_ladder_places_every_rung_at_its_log_loss(runs):
    figure = figures.of_runs(runs)["ladder"]
    for width in (charts.WIDE, charts.NARROW):
        drawn = ElementTree.fromstring(figure.svg(width))
        words = [text.text for text in drawn.iter(f"{SVG}text")]
        losses = [runs[0].metrics["baselines"][name] for name in TITLES]
        for name, loss in zip(TITLES.values(), losses, strict=True):
            assert name in words
            assert any(word.startswith(f"{loss:.4f}") for word in words)
        assert {"tiny-llama", "tiny-gemma (learned: no)"} <= set(words)
        marks = [g for g in drawn.iter(f"{SVG}g") if "mark-symbol" in g.get("class", "")]
        places = [float(re.search(r"\((.+),", mark.get("transform"))[1]) for mark in marks[-1]]
        values = tables.rungs(runs).value
        assert np.corrcoef(places, values)[0, 1] > 0.9999


@pytest.mark.parametrize(
    "label", ["gemma-3-270m-q4_k_m", "SmolLM2-135M-Instruct.Q4_1 (learned: no)"]
)
@pytest.mark.parametrize("width", [charts.WIDE, charts.NARROW])
def test_names_of_the_default_backbones_are_written_out(label, width):
    table = pd.DataFrame([{"label": label, "run": 0, "value": 0.1, "low": 0.0, "high": 0.2}])
    drawn = charts.Figure("Gains", "", partial(charts.forest, table, axis="gain")).svg(width)
    assert label in drawn


def test_one_run_leads_with_whether_it_has_learned(runs, tmp_path):
    texts = make_votes(240)
    for run, learned in zip(runs, ("yes", "no"), strict=True):
        page.write_run(run, texts, tmp_path / "page.html")
        html = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert f'<section class="verdict {learned}">' in html
        assert f"Learned: {learned}" in html
        assert html.index(f"Learned: {learned}") < html.index("<svg")
        assert run.checkpoint in html
        for number in ("log_loss", "prior_log_loss"):
            assert f"{run.metrics[number]:.4f}" in html
        assert "<script" not in html
        assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in html


def test_a_comparison_leads_with_verdict_reasons_and_warnings(runs, tmp_path):
    page.write_comparison(runs, comparison(runs), None, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<section class="verdict invalid">' in html
    for said in (
        "Nothing follows from &lt;i&gt;these&lt;/i&gt; 240 rows.",
        "tiny-gemma has not learned",
        "training loss ranks them the other way",
        "−0.2000",
        "0.0020",
        "0.0345",
        "texts of the votes were not at hand",
    ):
        assert said in html
    differing = html[html.index("Params that differ") :]
    assert re.search(r"model</th><td>llama</td><td>gemma</td>", differing)


@pytest.mark.parametrize("taught", [0, 1])
def test_what_one_run_alone_has_stands_beside_a_dash(runs, tmp_path, taught):
    teacher = {"from": "a-blend", "predictions": [], "weight": 0.5}
    both = list(runs)
    both[taught] = replace(runs[taught], params=runs[taught].params | {"teacher": teacher})
    page.write_comparison(both, comparison(both), None, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    cells = ["a-blend, weight 0.5", "—"]
    shown = "</td><td>".join(cells if taught == 0 else cells[::-1])
    assert f"teacher</th><td>{shown}</td>" in html


def test_runs_that_make_no_pair_have_a_page_that_says_why(run_of_other_votes, runs, tmp_path):
    both = [runs[0], run_of_other_votes]
    found = compare(both)
    assert not found["pairs"]
    page.write_comparison(both, found, make_votes(240), tmp_path / "page.html")
    assert "rows differ: 240 in llama; 120 in few" in (tmp_path / "page.html").read_text("utf-8")


@pytest.fixture(scope="module")
def without_ties(tmp_path_factory) -> list[finished.Result]:
    """As `runs`, on votes without ties."""
    folder = tmp_path_factory.mktemp("without")
    for place, (name, checkpoint) in enumerate(CHECKPOINTS.items()):
        write_run(folder / name, checkpoint, skill=1 + place, seed=place, model=name, classes=2)
    return [finished.read(folder / name, name) for name in CHECKPOINTS]


def test_pages_of_two_classes_know_no_tie(without_ties, tmp_path):
    texts, path = make_votes(240, classes=2), tmp_path / "page.html"
    page.write_run(without_ties[0], texts, path)
    one = path.read_text(encoding="utf-8")
    page.write_comparison(without_ties, compare(without_ties), texts, path)
    both = path.read_text(encoding="utf-8")
    for html in (one, both):
        assert "<td>A, B</td>" in html and 'class="tie"' not in html
        assert not re.search(r"\btie\b", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL))
    assert "Where the backbones disagree most" in both
    confused = tables.confusion(without_ties[0])
    assert len(confused) == 4 and confused.rows.sum() == 240
    assert set(tables.slices(without_ties[0]).query("slice == 'vote'").label) == {"A", "B"}


def test_a_comparison_of_two_classes_with_three_has_a_page_that_says_why(
    without_ties, runs, tmp_path
):
    mixed = [runs[0], without_ties[1]]
    page.write_comparison(mixed, compare(mixed), make_votes(240), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "the classes differ: a and b and tie in llama; a and b in gemma" in html
    assert "Where the backbones disagree most" not in html
    assert "The most confident errors of tiny-gemma" in html


def test_what_is_unknown_is_named_and_not_drawn(runs, tmp_path):
    unknown = leave_unknown(runs[0])
    page.write_run(unknown, None, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<dd>unknown<small>a fold has too few votes</small></dd>" in html
    assert "knows more than length and format is unknown" in html
    assert "Beyond length and format" not in html
    assert "beyond" not in figures.of_runs([unknown])
    beyond = figures.of_runs([unknown, runs[1]])["beyond"]
    assert "tiny-gemma" in beyond.description and "tiny-llama" not in beyond.description
    page.write_pictures([unknown], tmp_path)
    assert not (tmp_path / "beyond.svg").exists() and (tmp_path / "ladder.svg").exists()


def test_a_page_says_that_an_offset_was_given_and_is_to_be_beaten(tmp_path):
    train = raw_params()["train"]
    write_run(tmp_path / "run", train=train | {"offset": True})
    run = finished.read(tmp_path / "run", "run")
    run.metrics["reference"] = "counts"
    page.write_run(run, None, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "objective classify · offset</p>" in html
    assert f"offset alone {run.metrics['baselines']['counts']:.4f}" in html


def test_a_page_has_true_minuses_and_names_keep_their_hyphens(runs, tmp_path):
    said = "gemma-3-270m minus qwen-2: -0.0811 [-0.1204, +0.0034]"
    page.write_comparison(runs, comparison(runs, sentence=said), None, tmp_path / "two.html")
    page.write_run(runs[1], None, tmp_path / "one.html")
    two, one = ((tmp_path / f"{n}.html").read_text(encoding="utf-8") for n in ("two", "one"))
    assert "gemma-3-270m minus qwen-2: −0.0811 [−0.1204, +0.0034]" in two
    assert re.search(r"no better than the class prior [\d.]+, gain −[\d.]+ \[−", one)


def test_a_failed_gate_stands_open(runs, tmp_path):
    folds = json.loads(json.dumps(runs[0].folds))
    folds[1]["gates"][0] |= {"passed": False, "value": "2.7"}
    page.write_run(
        finished.Result(**vars(runs[0]) | {"folds": folds}), None, tmp_path / "page.html"
    )
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "1 of 2 gates failed" in html
    assert re.search(r"<details open>.*1\.0986; 2\.7", html, re.DOTALL)


def test_a_run_that_predicts_the_same_for_all_still_has_a_page(runs, tmp_path):
    columns = [
        f"{name}_{label}" for name in ("ab", "ba", "backbone", "by_rule") for label in LABELS
    ]
    flat = runs[0].rows.assign(**dict.fromkeys(columns, 1 / 3), tokens=9, tokens_dropped=0)
    dead = finished.Result(**vars(runs[0]) | {"rows": flat})
    assert list(tables.reliability(dead.votes, dead.probabilities("ab")).observed) == [
        pytest.approx(1 / 3)
    ]
    found = tables.slices(dead)
    assert list(found[found.slice == "tokens"].label) == ["9 to 9"]
    page.write_run(dead, make_votes(240), tmp_path / "page.html")
    assert "The most confident errors" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_examples_are_the_farthest_apart_and_the_surest(runs):
    texts = make_votes(240)
    llama, gemma = (run.probabilities("backbone") for run in runs)
    apart = np.abs(llama - gemma).sum(axis=1)
    found = examples.disagreements(runs, texts, 5)
    assert [example["id"] for example in found] == [f"id-{i}" for i in np.argsort(-apart)[:5]]
    labels = runs[0].rows.label.to_numpy()
    wrong = llama.argmax(axis=1) != labels
    surest = max(llama[wrong].max(axis=1))
    first = examples.most_confident(runs, 0, texts, 3, right=False)[0]
    shares = first["runs"][0]["probabilities"]
    assert max(shares.values()) == surest
    assert shares[first["vote"]] < surest
    assert examples.most_confident(runs, 1, texts, 3, right=False)[0]["runs"][0]["run"] == 1
    right = examples.most_confident(runs, 0, texts, 3, right=True)[0]
    shares = right["runs"][0]["probabilities"]
    assert max(shares.values()) == shares[right["vote"]] == max(llama[~wrong].max(axis=1))


def test_examples_skip_battles_whose_texts_are_not_at_hand(runs):
    texts = make_votes(240).iloc[:10]
    found = examples.disagreements(runs, texts, 30)
    assert {example["id"] for example in found} == set(texts.id)


def test_texts_are_cut_but_say_how_long_they_are():
    short = examples.part("Answer A", ["yes"])
    assert (short["excerpt"], short["whole"]) == ("yes", None)
    long = examples.part("Answer A", ["word " * 20_000])
    assert len(long["excerpt"]) < 500
    assert len(long["whole"]) == examples.WHOLE
    assert long["characters"] == 99_999
    turns = examples.part("Prompt", ["one", "two"])
    assert turns["excerpt"] == "[1] one\n\n[2] two"


def test_slices_hold_all_rows_but_those_of_tiny_slices(runs):
    found = tables.slices(runs[0])
    rows = found.groupby("slice").rows.sum()
    assert set(rows.index) == {"vote", "turns", "tokens", "script", "truncated"}
    assert (rows == 240).all()
    assert (found.low < found.value).all()
    assert (found.value < found.high).all()
    several = found[(found.slice == "turns") & (found.label == "several")]
    assert several.rows.item() == 30
    few = runs[0].rows.assign(turns=np.where(np.arange(240) < 5, 2, 1))
    left = tables.slices(finished.Result(**vars(runs[0]) | {"rows": few}))
    assert list(left[left.slice == "turns"].label) == ["one"]


def test_git_does_not_see_the_page_which_holds_texts_of_votes():
    found = subprocess.run(
        ["git", "check-ignore", "--no-index", str(REPORT)], cwd=REPO, check=False
    )
    assert found.returncode == 0


def test_the_stage_writes_page_and_pictures(tmp_path, monkeypatch):
    write_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report"])
    main()
    html = Path("metrics/report.html").read_text(encoding="utf-8")
    assert "question" in html  # the battles' texts
    for name in ("ladder", "beyond", "loss_curves"):
        drawn = Path(f"metrics/report/{name}.svg").read_text(encoding="utf-8")
        ElementTree.fromstring(drawn)
        assert "tiny-llama" in drawn
        assert "var(" not in drawn  # not every viewer knows CSS variables
    assert "log loss in one order" in Path("metrics/report/loss_curves.svg").read_text("utf-8")
    assert "the ladder's log loss averages both" in html
