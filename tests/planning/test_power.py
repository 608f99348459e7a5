"""The power that a plan promises: that of the rule which `compare` follows."""

import numpy as np
import pytest

from bench import error_rates
from stages.comparison import paired, verdict
from stages.comparison.verdict import DELTA
from stages.planning import power
from stages.planning.power import Design, chance, cheapest, designs, fold_effects
from stages.planning.worlds import FOLD_EFFECT, SAMPLE, SHARED, STEADY_EFFECT, World, spread, votes

SIMULATED = 200


def test_the_interval_of_many_columns_is_that_of_each():
    rng = np.random.default_rng(0)
    fold = np.repeat(np.arange(5), 40)
    columns = rng.normal(size=(200, 3))
    columns[:, 2] = 0.01  # no fold differs from another
    means = columns.reshape(5, 40, 3).mean(axis=1)
    found = paired.over_folds(means, 0.95)
    for i in range(3):
        alone = paired.corrected_t(columns[:, i], fold, 0.95)
        assert {name: values[i] for name, values in found.items()} == pytest.approx(alone)
    same = np.zeros((5, 1))
    assert paired.over_folds(same, 0.95)["p_value"] == [1.0]


@pytest.mark.parametrize(
    ("difference", "effect"), [(0.02, STEADY_EFFECT), (0.05, STEADY_EFFECT), (0.05, FOLD_EFFECT)]
)
def test_the_power_is_that_of_the_rule_on_whole_votes(monkeypatch, difference, effect):
    """Simulated votes, bootstrap and all, by the code of bench/error_rates.py."""
    monkeypatch.setattr(error_rates, "SIMULATIONS", SIMULATED)
    world = World(SAMPLE, difference, effect, SHARED)
    whole = error_rates.rates(world)["better"]
    # The rule on seeds is not in the bench: three of them, of which each has this much more.
    quick = chance(Design(SAMPLE, 5, 3), difference, effect * 3**0.5, DELTA)
    noise = (whole * (1 - whole) / SIMULATED + quick * (1 - quick) / power.SIMULATIONS) ** 0.5
    assert abs(whole - quick) < 4 * max(noise, 0.01)


def test_the_spread_of_votes_is_that_of_the_simulated_ones():
    drawn = votes(np.arange(20_000), 1, np.random.default_rng(0))
    assert drawn.std() == pytest.approx(spread(), rel=0.02)


def test_more_votes_and_seeds_find_more_and_a_larger_effect_less():
    def found(votes: int = 20_000, seeds: int = 3, effect: float = 0.01) -> float:
        return chance(Design(votes, 5, seeds), 0.015, effect, DELTA)

    assert found(5_000) < found() < found(50_000)
    assert found(seeds=3) < found(seeds=5)
    assert found(effect=0.03) < found() < found(effect=0.0)


def test_equal_backbones_are_seldom_called_different():
    assert chance(Design(57_477, 5, 3), 0.0, FOLD_EFFECT, DELTA) < 0.05


def test_below_the_noise_three_seeds_are_needed():
    many = 2_000_000  # votes enough to see the difference, but for the rule on seeds
    below = 0.8 * verdict.NOISE
    assert chance(Design(many, 5, 2), below, 0.0, DELTA) == 0.0
    assert chance(Design(many, 5, 3), below, 0.0, DELTA) == 1.0
    assert chance(Design(many, 5, 1), 1.5 * verdict.NOISE, 0.0, DELTA) == 1.0


def test_the_fold_effect_at_best_falls_with_the_votes_and_at_worst_stays():
    assert fold_effects("sft", SAMPLE) == {"best": STEADY_EFFECT, "worst": STEADY_EFFECT}
    more = fold_effects("classify", 4 * SAMPLE)
    assert more == {"best": pytest.approx(FOLD_EFFECT / 2), "worst": FOLD_EFFECT}
    fewer = fold_effects("classify", SAMPLE // 4)
    assert fewer["best"] == fewer["worst"] == FOLD_EFFECT  # nothing says that it grows


def test_the_cheapest_design_finds_it_and_no_cheaper_one_does():
    def hours(design: Design) -> float:
        return design.votes * (design.folds - 1) * design.seeds

    design, found = cheapest(0.02, 57_477, "sft", "worst", DELTA, hours)
    assert found >= power.WANTED
    for other in designs(57_477):
        if hours(other) < hours(design):
            assert chance(other, 0.02, STEADY_EFFECT, DELTA) < power.WANTED


def test_where_no_design_finds_it_there_is_none():
    assert cheapest(0.005, 2_471, "classify", "worst", DELTA, lambda design: design.votes) is None
