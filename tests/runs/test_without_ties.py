"""Votes without ties, from the raw file to predictions: two classes everywhere, and no tie."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from stages import predict
from stages.pages.demo import Battle, make_app
from stages.runs import finished
from stages.runs.ensemble import Ensemble
from stages.scoring import calibration
from stages.votes.rows import TURNS, WINNERS
from tests.support.trained import FOLDS, Trained, trained_clone

pytestmark = pytest.mark.rounding

ORDERS = ["ab_a", "ab_b", "ba_a", "ba_b"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny) -> Trained:
    return trained_clone(tmp_path_factory, tiny, ties=False)


@pytest.fixture(scope="module")
def model(trained) -> Ensemble:
    with trained.inside():
        return Ensemble(Path())


def test_metrics_and_tables_are_of_two_classes(trained):
    metrics = trained.metrics()
    assert metrics["n_classes"] == 2 and set(metrics["log_loss_by_class"]) == {"a", "b"}
    assert metrics["prior_log_loss"] == pytest.approx(np.log(2), abs=0.05)
    plot = pd.read_csv(trained.path / "metrics/plots/validation_loss.csv")
    assert plot.validation_loss[0] == pytest.approx(np.log(2))
    result = finished.read(trained.path, "workspace")
    assert result.votes.classes == 2
    assert not [column for column in result.rows if column.endswith("_tie")]
    for fold in FOLDS:
        predictions = trained.predictions(fold)
        assert [name for name in predictions if name.startswith(("ab_", "ba_"))] == ORDERS


def test_the_model_gives_the_out_of_fold_logits_calibrates_them_and_no_tie(trained, model):
    battles = trained.battles()
    logits, _ = model.logits(battles)
    for fold in FOLDS:
        rows = trained.predictions(fold).set_index("id")[ORDERS]
        found = logits[fold][:, battles.id.isin(rows.index)]
        expected = rows.loc[battles.id[battles.id.isin(rows.index)]].to_numpy().reshape(-1, 2, 2)
        assert np.abs(found - expected.swapaxes(0, 1)).max() < 1e-5
    mean = softmax(logits.astype(float), axis=-1).mean(axis=(0, 1))
    fitted = json.loads((trained.path / "data/evaluated/calibration.json").read_text())
    expected = calibration.apply(mean, fitted, calibration.kinds(battles))
    predicted = model.predict(battles)
    assert np.abs(predicted.final[:, :2] - expected).max() < 1e-5
    for probabilities in (predicted.ab, predicted.ba, predicted.final):
        assert (probabilities[:, 2] == 0).all() and np.allclose(probabilities.sum(axis=1), 1)


def test_a_submission_has_zero_for_a_tie_also_where_a_row_cannot_be_read(trained):
    battles = trained.battles()[:3]
    texts = [[json.dumps(list(turns)) for turns in battles[name]] for name in TURNS]
    rows = [*zip(battles.id, *texts, strict=True), ("broken", "[]", "[]", "[]")]
    with (trained.path / "test.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", *TURNS], *rows])
    with pytest.raises(SystemExit):  # a quarter of its rows cannot be read
        trained.call(predict.main, "--input", "test.csv", "--output", "out.csv")
    found = pd.read_csv(trained.path / "out.csv", dtype={"id": str})
    assert len(found) == 4 and (found.winner_tie == 0).all()
    assert np.allclose(found[list(WINNERS)].sum(axis=1), 1)
    shares = json.loads((trained.path / "metrics/split.json").read_text())["share"]
    assert found.winner_model_a.iloc[3] == pytest.approx(shares["a"])


def test_the_demo_says_nothing_of_ties(model):
    routes = {route.path: route.endpoint for route in make_app(model).routes}
    assert set(routes["/model"]()["prior"]) == {"a", "b"}
    battle = Battle(prompt="What is 2 + 2?", response_a="It is 4.", response_b="Fish.")
    told = routes["/predict"](battle)
    for name in ("final", "ab", "ba"):
        assert set(told[name]) == {"a", "b"} and sum(told[name].values()) == pytest.approx(1)
