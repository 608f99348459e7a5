"""What the verdict must not be fooled by: repeated runs, near-copies, order, doubtful learning."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from stages.comparison import paired, posted
from stages.comparison.compare import compare
from stages.config.errors import UserError
from stages.runs import finished
from stages.scoring import scores
from tests.support.runs import write_run


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, finished.Result]:
    """Runs of 600 votes and five folds: one backbone with three seeds, and a weaker one."""
    folder = tmp_path_factory.mktemp("runs")

    def make(name: str, checkpoint: str, skill: float, seed: int) -> finished.Result:
        write_run(folder / name, checkpoint, skill, seed, rows=600, folds=5)
        result = finished.read(folder / name, name)
        result.params["train"]["seed"] = seed
        return result

    return {
        **{f"strong-{seed}": make(f"strong-{seed}", "strong", 1.5, seed) for seed in (1, 2, 3)},
        "weak": make("weak", "weak", 0.8, 4),
    }


def changed(result: finished.Result, name: str, **params: object) -> finished.Result:
    """A run as another one, with other sections of params."""
    return replace(result, name=name, params=copy.deepcopy(result.params) | params)


# Seeds


def test_seeds_are_averaged_vote_by_vote(made):
    strong, weak = [made[f"strong-{seed}"] for seed in (1, 2, 3)], made["weak"]
    comparison = compare([*strong, weak])
    (pair,) = comparison["pairs"]
    mean = np.mean([run.metrics["log_loss"] for run in strong])
    assert pair["difference"] == pytest.approx(mean - weak.metrics["log_loss"])
    found = comparison["seeds"]["strong-1"]
    assert found["runs"] == ["strong-1", "strong-2", "strong-3"]
    assert found["std"] == pytest.approx(np.std(found["log_losses"], ddof=1))


def test_a_run_given_twice_is_no_second_seed(made):
    again = changed(made["strong-1"], "again")
    comparison = compare([made["strong-1"], again, made["weak"]])
    assert comparison["verdict"] == "invalid"
    assert "strong-1 and again are the same run" in comparison["sentence"]


def test_one_backbone_under_two_prompts_is_compared_and_not_averaged(made):
    other = changed(
        made["strong-2"], "short", prompt={"prompt": 0.1, "response_a": 0.45, "response_b": 0.45}
    )
    comparison = compare([made["strong-1"], other])
    assert set(comparison["seeds"]) == {"strong-1", "short"} and len(comparison["pairs"]) == 1


def test_backbones_that_predict_alike_with_three_seeds_each_are_equivalent(made):
    strong = [made[f"strong-{seed}"] for seed in (1, 2, 3)]
    clipped = {**strong[0].params["train"], "optimizer": {"max_grad_norm": 9}}
    other = [
        changed(run, f"{run.name}-clipped", train=clipped | {"seed": seed})
        for seed, run in enumerate(strong)
    ]
    assert compare([*strong, *other])["verdict"] == "equivalent"
    assert compare([*strong, *other[:2]])["verdict"] == "undecided"


# Rows


def test_the_order_of_the_rows_does_not_matter(made):
    strong, weak = made["strong-1"], made["weak"]
    shuffled = replace(weak, rows=weak.rows.sample(frac=1, random_state=0, ignore_index=True))
    assert compare([strong, shuffled])["pairs"] == compare([strong, weak])["pairs"]


@pytest.mark.parametrize("column", ["id", "target_a", "weight", "group", "fold"])
def test_rows_that_differ_in_any_key_are_not_compared(made, column):
    rows = made["weak"].rows.assign(weight=np.arange(600) % 2 + 1.0)
    strong = replace(made["strong-1"], rows=made["strong-1"].rows.assign(weight=rows.weight))
    rows[column] = rows[column].to_numpy()[::-1]
    if column == "id":  # the same ids in another order are no difference
        rows["id"] = rows.id + "'"
    comparison = compare([strong, replace(made["weak"], rows=rows)])
    assert comparison["verdict"] == "invalid" and comparison["pairs"] == []
    assert "the votes or their folds differ" in comparison["sentence"]


def test_other_raw_votes_are_named_by_their_digest(made):
    other = replace(made["weak"], raw_votes="f" * 32)
    assert f"{'f' * 32} in weak" in compare([made["strong-1"], other])["sentence"]


# Learning


def test_a_winner_that_may_not_have_learned_is_not_called_better(made):
    strong, weak = made["strong-1"], made["weak"]
    assert compare([strong, weak])["verdict"] == "better"
    doubtful = replace(strong, metrics=strong.metrics | {"learned": "undecided"})
    comparison = compare([doubtful, weak])
    assert comparison["verdict"] == "undecided"
    assert any("no claim for strong-1" in warning for warning in comparison["warnings"])


# Numbers


def test_the_difference_is_that_of_both_orders_averaged(made):
    strong, weak = made["strong-1"], made["weak"]
    losses = [
        scores.log_loss(run.votes, (run.probabilities("ab") + run.probabilities("ba")) / 2)
        for run in (strong, weak)
    ]
    (pair,) = compare([strong, weak])["pairs"]
    assert pair["difference"] == pytest.approx(losses[0] - losses[1])


def test_a_class_with_one_tenth_of_the_votes_has_a_wider_interval_than_all():
    rows = table(1000)
    found = paired.bootstrap(noise(1000), rows, 500, 0.95, 0)
    (cut,) = (s for s in found["slices"] if (s["slice"], s["value"]) == ("truncated", "yes"))
    assert cut["rows"] == 100
    assert cut["high"] - cut["low"] > 2 * (found["high"] - found["low"])


def test_votes_on_one_prompt_widen_the_interval():
    rows = table(1000)
    common = np.repeat(noise(100), 10)
    alone = paired.bootstrap(common, rows, 500, 0.95, 0)
    together = paired.bootstrap(common, rows.assign(group=np.arange(1000) // 10), 500, 0.95, 0)
    assert together["high"] - together["low"] > 2 * (alone["high"] - alone["low"])
    assert together["p_value"] > alone["p_value"]


def test_slices_of_few_prompts_are_left_out():
    rows = table(1000).assign(script=["latin"] * 980 + ["thai"] * 20)
    assert ("script", "latin") in paired.slices(rows)
    assert ("script", "thai") not in paired.slices(rows)


def test_a_length_is_the_mean_over_tokenizers_and_any_cut_counts():
    base = pd.DataFrame({"id": list("abc"), "group": 0, "fold": 0, "label": 0, "turns": [1, 1, 2]})
    base = base.assign(script="latin")
    one = base.assign(tokens=[10, 20, 30], tokens_dropped=[0, 0, 5])
    other = base.assign(tokens=[90, 22, 30], tokens_dropped=0)
    found = paired.describe([one, other])
    assert found.length.tolist() == ["long", "short", "medium"]
    assert found.truncated.tolist() == ["no", "no", "yes"]
    assert found.turns.tolist() == ["one", "one", "several"]


def test_two_folds_can_hardly_bear_a_claim():
    values, folds = np.repeat([0.02, 0.03], 10), np.repeat([0, 1], 10)
    assert paired.corrected_t(values, folds, 0.95)["low"] < 0


def table(rows: int) -> pd.DataFrame:
    """As describe gives it: every tenth vote truncated, a prompt a vote."""
    index = np.arange(rows)
    return pd.DataFrame(
        {
            "group": index,
            "label": np.array(["a", "b", "tie"])[index % 3],
            "turns": "one",
            "length": "short",
            "script": "latin",
            "truncated": np.where(index % 10 == 0, "yes", "no"),
        }
    )


def noise(rows: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0.02, 0.25, size=rows)


# Posted losses


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"votes: {a: 0, b: 0, tie: 0}\nruns: {x: {}, y: {}}", "expected votes, found none"),
        (b"\xff\xfe\x00", "not valid YAML"),
    ],
)
def test_a_table_of_nothing_and_a_file_of_no_text_are_explained(tmp_path, content, message):
    (tmp_path / "t.yaml").write_bytes(content)
    with pytest.raises(UserError, match=message):
        posted.load(tmp_path / "t.yaml")
