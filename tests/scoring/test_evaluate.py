"""Evaluation of planted backbones: did it learn, does it know more than counting, is all there."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import baselines, evaluate
from stages.config.errors import UserError
from stages.config.params import Evaluate
from stages.counting import regression
from stages.counting.features import count_features
from stages.scoring import metrics as scoring
from stages.scoring import scores
from stages.scoring.baselines import predict_baselines
from stages.scoring.learning import beyond_baseline, learned, pooled, reference
from stages.scoring.out_of_fold import all_probabilities
from stages.scoring.predictions import order_probabilities, read_predictions, read_summaries
from stages.scoring.sentences import printout, what_pooling_gains, whether_learned
from stages.votes.labels import Votes, with_classes
from stages.votes.prepared import VOTE
from tests.support.settings import raw_params
from tests.support.votes import cast, make_folds, make_votes, with_votes

SETTINGS = Evaluate(draws=1000, confidence=0.95, equivalence=0.02, calibration="bias", rules=True)
LABELS = ("a", "b", "tie")
CHECKPOINT = {"family": "llama", "size": "small", "checkpoint": "tiny-llama", "revision": "abc"}


class Case:
    """Votes in which length matters, their folds and their baselines."""

    def __init__(self, n: int, k: int, classes: int = 3) -> None:
        self.votes = make_votes(n, 0.4)
        if classes == 2:
            dealt = np.where(self.votes.label == 2, np.arange(n) % 2, self.votes.label)
            self.votes = with_classes(with_votes(self.votes, dealt))
        self.shown = LABELS[:classes]
        self.labels = self.votes.label.to_numpy()
        self.folds = make_folds(n, k)
        self.features = count_features(self.votes)
        self.baselines = predict_baselines(self.votes, self.features, self.folds)
        groups = [f"group-{i // 2}" for i in range(n)]
        kept = [name for name in ("id", *VOTE) if name in self.votes]
        self.rows = self.votes[kept].assign(group=groups, fold=self.folds)

    def predictions(self, logits: np.ndarray) -> pd.DataFrame:
        frame = self.rows[["id", "fold"]].assign(tokens=10, tokens_dropped=0)
        columns = [f"{order}_{label}" for order in ("ab", "ba") for label in self.shown]
        return frame.join(pd.DataFrame(np.hstack([logits, logits]), columns=columns))

    def evaluate(self, logits: np.ndarray, offset: bool = False) -> dict:
        probabilities, _ = self.probabilities(logits)
        return scoring.evaluate(self.rows, probabilities, SETTINGS, 0, reference(offset))[0]

    def probabilities(self, logits: np.ndarray, settings: Evaluate = SETTINGS) -> tuple[dict, dict]:
        ab, ba = order_probabilities(self.predictions(logits))
        battles = self.votes.assign(fold=self.folds, group=self.rows.group)
        return all_probabilities(battles, ab, ba, self.baselines, settings)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(900, 3)


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(3)[labels]


def test_an_informative_backbone_has_learned_more_than_length(case):
    noise = np.random.default_rng(0).normal(size=(900, 3))
    metrics = case.evaluate(0.5 * one_hot(case.labels) + 0.3 * noise)
    assert metrics["learned"] == "yes" and metrics["gain_over_prior_low"] > 0
    assert metrics["gain_beyond_features_low"] > 0.05


def test_a_backbone_at_the_prior_has_not_learned(case):
    noise = np.random.default_rng(0).normal(size=(900, 3))
    metrics = case.evaluate(np.log(case.baselines["prior"]) + 0.01 * noise)
    assert metrics["learned"] == "no"
    assert metrics["log_loss"] == pytest.approx(metrics["prior_log_loss"], abs=1e-3)
    assert metrics["gain_beyond_features_low"] < 0 < metrics["gain_beyond_features_high"] + 0.01


def test_a_backbone_that_is_too_sure_is_told_to_train_less(case):
    rng = np.random.default_rng(0)
    shown = np.where(rng.random(900) < 0.55, case.labels, rng.integers(0, 3, 900))
    metrics = case.evaluate(8.0 * one_hot(shown))
    assert metrics["learned"] == "no" and metrics["log_loss"] > metrics["prior_log_loss"]
    told = whether_learned(metrics)
    assert f"Calibrated, it has {metrics['log_loss_calibrated']:.4f}: it knows something" in told
    assert "fewer epochs" in told and "more votes or epochs" not in told


@pytest.mark.parametrize(
    ("low", "high", "end"),
    [(0.01, 0.03, "+0.0300]."), (-0.01, 0.03, "no gain."), (-0.03, -0.01, ", which is a loss.")],
)
def test_a_gain_that_is_none_or_a_loss_is_called_so(low, high, end):
    gain = dict.fromkeys(["gain_over_counts"], (low + high) / 2)
    ends = {"gain_over_counts_low": low, "gain_over_counts_high": high}
    assert what_pooling_gains({"with": "counts", "log_loss": 1.0} | gain | ends).endswith(end)


def test_an_offset_alone_is_no_learning(case):
    noise = np.random.default_rng(0).normal(size=(900, 3))
    offset = np.log(case.baselines["counts"])
    nothing, something = offset + 0.01 * noise, offset + 0.5 * one_hot(case.labels)
    assert case.evaluate(nothing)["learned"] == "yes", "it does beat the class prior"
    metrics = case.evaluate(nothing, offset=True)
    assert metrics["learned"] == "no" and metrics["gain_over_prior_low"] > 0
    told = f"offset alone (length and format) {metrics['baselines']['counts']:.4f}, gain "
    assert f"is no better than the {told}" in whether_learned(metrics)
    assert case.evaluate(something, offset=True)["learned"] == "yes"


def test_noise_is_not_taken_for_learning(case):
    noise = np.random.default_rng(0).normal(size=(900, 3))
    metrics = case.evaluate(0.3 * noise)
    assert metrics["learned"] in ("no", "undecided") and metrics["gain_over_prior"] < 0
    assert metrics["gain_beyond_features_low"] < 0.002


def test_what_a_fold_is_scored_on_has_no_part_in_what_pools_its_predictions(case):
    """The backbone is made of the same votes as the counts: across folds, these give it away."""
    rng = np.random.default_rng(1)
    shuffled = cast(rng.permutation(case.labels))
    inputs = regression.count_inputs(case.features)
    counts, sharper = (regression.out_of_fold(inputs, shuffled, case.folds, c) for c in (0.002, 1))
    groups = case.rows.group.to_numpy()

    def pool(*predictions: np.ndarray, votes: Votes = shuffled) -> np.ndarray:
        return pooled(predictions, votes, case.folds, groups)

    with_sharper = pool(counts, sharper)
    gain = scores.log_loss(shuffled, pool(counts)) - scores.log_loss(shuffled, with_sharper)
    assert gain < 0.003, "in noise there is nothing to gain"
    labels = shuffled.labels
    others = cast(np.where(case.folds == 0, labels, rng.permutation(labels)))
    changed = pool(counts, sharper, votes=others) != with_sharper
    assert not changed[case.folds == 0].any() and changed[case.folds != 0].any()


def test_what_pooling_does_to_the_counts_is_no_gain_of_the_backbone():
    baseline, calibrated = np.array([1.0, 1.2]), np.array([0.9, 1.1])
    votes = cast([0, 1])
    assert beyond_baseline(baseline, calibrated, calibrated, votes).tolist() == [0, 0]
    worsened, with_backbone = baseline + 0.2, baseline + 0.1
    found = beyond_baseline(baseline, worsened, with_backbone, votes)
    assert found == pytest.approx(-0.1)


@pytest.mark.parametrize("labels", [[2, 2, 2, 2], [0, 1, 2, 0]], ids=["ties only", "one prompt"])
def test_too_few_votes_to_pool_are_not_pooled(labels):
    groups = np.zeros(4) if labels[0] == 0 else np.arange(4)
    first, second = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 4))
    assert pooled([first, second], cast(labels), np.zeros(4), groups) is None


def test_a_backbone_that_knows_only_length_adds_nothing_to_length(case):
    ratio = np.log(case.features.words_a / case.features.words_b).to_numpy()
    metrics = case.evaluate(np.column_stack([0.4 * ratio, -0.4 * ratio, np.zeros(900)]))
    assert metrics["learned"] == "yes"
    low, high = (metrics[f"gain_beyond_features_{end}"] for end in ("low", "high"))
    assert low < 0.005 and high > -0.005 and abs(metrics["gain_beyond_features"]) < 0.02


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [(0.001, 0.1, "yes"), (-0.1, 0.004, "no"), (-0.1, 0.1, "undecided"), (0, 0, "no")],
)
def test_learned_is_read_from_the_interval(low, high, answer):
    assert learned(low, high, equivalence=0.005) == answer


def test_metrics_are_finite_and_named_alike_for_every_backbone(case):
    good, flat = case.evaluate(one_hot(case.labels)), case.evaluate(np.zeros((900, 3)))
    assert flatten(good).keys() == flatten(flat).keys()
    assert all(math.isfinite(v) for v in flatten(good).values() if not isinstance(v, str))
    assert set(good["folds"]) == {"fold_0", "fold_1", "fold_2"}
    losses = [fold["log_loss"] for fold in good["folds"].values()]
    assert good["log_loss_fold_std"] == pytest.approx(np.std(losses, ddof=1))
    assert flat["log_loss"] == pytest.approx(math.log(3)) and flat["order_consistency"] == 1


def test_two_folds_of_few_rows_still_give_numbers():
    small = Case(40, 2)
    noise = np.random.default_rng(0).normal(size=(40, 3))
    metrics = small.evaluate(0.1 * noise)
    numbers = {k: v for k, v in flatten(metrics).items() if not isinstance(v, str)}
    unknown = {f"gain_beyond_features{end}" for end in ("", "_low", "_high")}
    assert {name for name, value in numbers.items() if value is None} == unknown
    assert all(math.isfinite(numbers[name]) for name in numbers.keys() - unknown)
    assert metrics["gain_over_prior_high"] - metrics["gain_over_prior_low"] > 0


def test_what_too_few_votes_leave_unknown_is_null_and_is_said():
    small = Case(40, 2)
    probabilities, _ = small.probabilities(np.zeros((40, 3)))
    assert not {"features", "with_features"} & set(probabilities)
    metrics, ladder = scoring.evaluate(small.rows, probabilities, SETTINGS, seed=0)
    assert '"gain_beyond_features": null' in json.dumps(metrics, allow_nan=False)
    text = printout(metrics, ladder, "tiny-llama", 0.95)
    assert "knows more than length and format is unknown: a fold has too few votes" in text


def test_orders_are_averaged_as_probabilities(case):
    logits = np.log([[0.8, 0.1, 0.1]]), np.log([[0.4, 0.5, 0.1]])
    frame = case.predictions(np.zeros((900, 3))).head(1)
    for order, values in zip(("ab", "ba"), logits, strict=True):
        frame[[f"{order}_{label}" for label in LABELS]] = values
    ab, ba = order_probabilities(frame)
    quality = scoring.quality(cast([0]), ab, ba, (ab + ba) / 2)
    assert quality["log_loss"] == pytest.approx(-math.log(0.6))
    assert quality["log_loss_single"] == pytest.approx(-math.log(0.8))
    assert quality["order_consistency"] == 0


def test_without_ties_every_metric_is_of_two_classes():
    without = Case(600, 3, classes=2)
    noise = np.random.default_rng(0).normal(size=(600, 2))
    metrics = without.evaluate(0.5 * np.eye(2)[without.labels] + 0.3 * noise)
    assert metrics["n_classes"] == 2 and set(metrics["log_loss_by_class"]) == {"a", "b"}
    assert all(math.isfinite(v) for v in flatten(metrics).values() if not isinstance(v, str))
    assert metrics["prior_log_loss"] == pytest.approx(math.log(2), abs=0.01)
    assert metrics["learned"] == "yes" and metrics["gain_beyond_features_low"] > 0
    flat = without.evaluate(np.zeros((600, 2)))
    assert flat["log_loss"] == pytest.approx(math.log(2)) and flat["brier"] == pytest.approx(0.5)
    _, fitted = without.probabilities(0.2 * noise)
    assert len(fitted["bias"]) == 2 and fitted["bias"][0] == 0
    assert {len(counts) for counts in fitted["rules"].values()} == {2}


def test_backbone_and_a_baseline_are_pooled_by_the_mean_of_their_logs(case):
    settings = SETTINGS.model_copy(update={"pool": "counts"})
    logits = 0.5 * one_hot(case.labels)
    probabilities, _ = case.probabilities(logits, settings)
    metrics, ladder = scoring.evaluate(case.rows, probabilities, settings, seed=0)
    product = np.exp(logits / 2) * np.sqrt(case.baselines["counts"])
    expected = -np.log((product / product.sum(axis=1, keepdims=True))[range(900), case.labels])
    counts = scores.example_losses(cast(case.labels), case.baselines["counts"])
    assert metrics["pooled"]["log_loss"] == pytest.approx(expected.mean())
    assert metrics["pooled"]["gain_over_counts"] == pytest.approx((counts - expected).mean())
    assert "tiny-llama, pooled" in printout(metrics, ladder, "tiny-llama", 0.95)


@pytest.mark.parametrize("learned", ["yes", "no", "undecided"])
def test_the_report_says_in_words_whether_it_learned(case, learned):
    probabilities, _ = case.probabilities(np.zeros((900, 3)))
    metrics, ladder = scoring.evaluate(case.rows, probabilities, SETTINGS, seed=0)
    text = printout(metrics | {"learned": learned}, ladder, "tiny-llama", 0.95)
    words = {"yes": "has learned", "no": "has not learned", "undecided": "is undecided"}
    assert words[learned] in text and "tiny-llama: 900 rows in 3 folds" in text
    assert "class prior" in text and "95 % interval" in text
    assert ("It passed every gate, so it is able to learn" in text) == (learned == "no")


@pytest.fixture
def workspace(tmp_path, monkeypatch, case):
    """A workspace as the stages before `evaluate` leave it, with a backbone that has learned."""
    monkeypatch.chdir(tmp_path)
    for folder in ("data/prepared", "data/folds", "data/predictions", "metrics/folds"):
        (tmp_path / folder).mkdir(parents=True)
    raw = raw_params()
    raw["split"]["folds"] = [0, 1, 2]
    raw["evaluate"]["draws"] = 200
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    case.votes.sample(frac=1, random_state=0).to_parquet("data/prepared/battles.parquet")
    case.rows[["id", "group", "fold"]].to_parquet("data/folds/folds.parquet")
    baselines.main()
    predictions = case.predictions(one_hot(case.labels) * 0.5)
    for fold in range(3):
        part = predictions[predictions.fold == fold].drop(columns="fold")
        part.to_parquet(f"data/predictions/fold-{fold}.parquet")
        write_record(tmp_path, fold)
    return tmp_path


def write_record(workspace, fold: int, **changes) -> None:
    path = workspace / f"metrics/folds/fold-{fold}.json"
    record = {"fold": fold, "checkpoint": CHECKPOINT, "objective": "classify", "offset": False}
    record |= {"tokens_seen": 1000, "train_seconds": 10 + fold, "peak_memory_gib": 1 + fold}
    path.write_text(json.dumps(record | changes), encoding="utf-8")
    path.with_suffix(".csv").write_text(
        "step,epoch,training_loss,validation_loss,lr,grad_norm\n"
        f"5,0.5,{1.1 + fold},,0.1,1\n10,1.0,1.0,,0.1,1\n10,1.0,,{0.9 + fold / 10},,\n",
        encoding="utf-8",
    )


def test_the_stage_writes_metrics_and_plots(workspace, capsys):
    write_record(workspace, 7, checkpoint="a leftover of a run with more folds")
    evaluate.main()
    metrics = json.loads((workspace / "metrics/metrics.json").read_text(encoding="utf-8"))
    assert metrics["learned"] == "yes" and metrics["n_rows"] == 900
    assert metrics["tokens_seen"] == 3000 and metrics["peak_memory_gib"] == 3
    assert metrics["tokens_per_second"] == pytest.approx(3000 / 33)
    assert metrics["prior_log_loss"] == pytest.approx(metrics["baselines"]["prior"])
    assert "tiny-llama" not in json.dumps(list(flatten(metrics)))
    plots = {p.stem: pd.read_csv(p) for p in (workspace / "metrics/plots").iterdir()}
    assert plots["training_loss"].to_dict("list") == {
        "step": [5, 10],
        "training_loss": pytest.approx([2.1, 1.0]),
    }
    assert plots["validation_loss"].epoch.tolist() == [0, 1]
    assert plots["validation_loss"].validation_loss.tolist() == pytest.approx([math.log(3), 1.0])
    assert plots["validation_loss"].to_beat.tolist() == [metrics["prior_log_loss"]] * 2
    assert len(plots["confusion"]) == 900 and plots["calibration"]["count"].sum() == 900
    assert (plots["confusion"].actual == plots["confusion"].predicted).mean() == 1
    assert "The backbone has learned" in capsys.readouterr().out


def add_ties_in_no_fold(count: int, training_only: bool) -> None:
    """Let the workspace have so many more votes, all for a tie, which no fold holds out."""
    battles, folds = (
        pd.read_parquet(f"data/{name}.parquet") for name in ("prepared/battles", "folds/folds")
    )
    ids = [f"more-{i}" for i in range(count)]
    more = with_votes(battles[:count], [2] * count).assign(id=ids, training_only=training_only)
    apart = pd.DataFrame({"id": ids, "group": "apart", "fold": -1})
    pd.concat([battles, more]).to_parquet("data/prepared/battles.parquet")
    pd.concat([apart, folds]).to_parquet("data/folds/folds.parquet")


def test_votes_that_are_only_trained_on_are_never_evaluated(workspace, case):
    add_ties_in_no_fold(50, training_only=True)
    baselines.main()
    evaluate.main()
    metrics = json.loads((workspace / "metrics/metrics.json").read_text(encoding="utf-8"))
    prior = scores.log_loss(cast(case.labels), case.baselines["prior"])
    assert metrics["n_rows"] == 900 and set(metrics["folds"]) == {"fold_0", "fold_1", "fold_2"}
    assert metrics["prior_log_loss"] == pytest.approx(prior), "their class shares are no part of it"


def test_baselines_train_on_reserved_votes_which_no_metric_counts(workspace, case):
    add_ties_in_no_fold(300, training_only=False)
    baselines.main()
    evaluate.main()
    metrics = json.loads((workspace / "metrics/metrics.json").read_text(encoding="utf-8"))
    assert metrics["n_rows"] == 900 and set(metrics["folds"]) == {"fold_0", "fold_1", "fold_2"}
    found = pd.read_parquet("data/baselines/predictions.parquet")
    assert set(found.id) == set(case.rows.id)
    assert found.prior_tie.min() > case.baselines["prior"][:, 2].max() + 0.1


def test_the_out_of_fold_table_gives_the_metrics_again_and_holds_no_text(workspace, case):
    evaluate.main()
    metrics = json.loads((workspace / "metrics/metrics.json").read_text(encoding="utf-8"))
    table = pd.read_parquet(workspace / "data/evaluated/out_of_fold.parquet")
    assert sorted(table.id) == sorted(case.rows.id)
    ab, ba = (table[[f"{order}_{label}" for label in LABELS]].to_numpy() for order in ("ab", "ba"))
    chosen = ((ab + ba) / 2)[np.arange(900), table.label]
    assert -np.log(chosen).mean() == pytest.approx(metrics["log_loss"])
    assert set(table.turns) == {len(turns) for turns in case.votes.prompt}
    texts = table.select_dtypes(exclude="number").columns
    assert set(texts) == {"id", "group", "script", "source", "language"}
    assert set(table.script) == {"latin"}


def test_the_baselines_stage_keeps_ids_and_rows(workspace, case):
    table = pd.read_parquet("data/baselines/predictions.parquet")
    assert table.id.tolist() == case.rows.id.tolist()
    tfidf = table[[f"tfidf_{label}" for label in LABELS]].to_numpy()
    assert tfidf == pytest.approx(case.baselines["tfidf"])
    metrics = json.loads((workspace / "metrics/baselines.json").read_text(encoding="utf-8"))
    assert set(metrics["counts"]) == {
        "log_loss",
        "gain_over_prior",
        "gain_over_prior_low",
        "gain_over_prior_high",
        "accuracy",
    }


def predictions_of(workspace, fold: int) -> pd.DataFrame:
    return pd.read_parquet(workspace / f"data/predictions/fold-{fold}.parquet")


def test_missing_stray_and_double_predictions_are_named(workspace, case):
    path = workspace / "data/predictions/fold-1.parquet"
    rows, other = predictions_of(workspace, 1), predictions_of(workspace, 2)
    pd.concat([rows.iloc[2:], rows.iloc[5:6], other.iloc[:1]]).to_parquet(path)
    with pytest.raises(UserError) as raised:
        read_predictions(case.rows)
    message = str(raised.value)
    assert f"2 rows ({', '.join(sorted(rows.id.iloc[:2]))}) without a prediction" in message
    assert f"1 row ({rows.id.iloc[5]}) predicted more than once" in message
    assert f"1 row ({other.id.iloc[0]}) predicted by a fold that does not hold them" in message
    assert "dvc repro --force --single-item train@1`" in message


def test_predictions_that_are_not_finite_stop_the_stage(workspace, capsys):
    rows = predictions_of(workspace, 2)
    rows.loc[rows.index[3], "ba_tie"] = np.nan
    rows.to_parquet(workspace / "data/predictions/fold-2.parquet")
    with pytest.raises(SystemExit):
        evaluate.main()
    assert f"fold-2.parquet: expected finite logits, found 1 row ({rows.id.iloc[3]})" in (
        capsys.readouterr().err
    )


def test_a_fold_without_results_is_named(workspace, capsys):
    (workspace / "data/predictions/fold-0.parquet").unlink()
    with pytest.raises(SystemExit):
        evaluate.main()
    assert "data/predictions/fold-0.parquet not found" in capsys.readouterr().err


def test_folds_of_two_checkpoints_are_not_one_result(workspace):
    write_record(workspace, 2, checkpoint=CHECKPOINT | {"checkpoint": "tiny-gemma"})
    with pytest.raises(UserError, match="tiny-gemma"):
        read_summaries([0, 1, 2])


def flatten(metrics: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in metrics.items():
        inner = isinstance(value, dict)
        flat |= flatten(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat
