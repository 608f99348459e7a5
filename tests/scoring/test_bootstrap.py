"""The paired cluster bootstrap against theory, scipy and simulation."""

import numpy as np
import pytest
import scipy.stats

from stages.scoring import bootstrap
from stages.scoring.bootstrap import bootstrap_columns, paired_cluster_bootstrap


def test_rows_of_their_own_agree_with_scipy():
    differences = np.random.default_rng(0).exponential(size=300)
    ours = paired_cluster_bootstrap(differences, np.arange(300), 5000, 0.9, seed=1)
    theirs = scipy.stats.bootstrap(
        (differences,), np.mean, n_resamples=5000, confidence_level=0.9, method="percentile", rng=2
    ).confidence_interval
    assert ours.mean == pytest.approx(differences.mean())
    assert ours[1:] == pytest.approx(theirs, abs=0.01)


def test_clusters_of_any_size_weigh_by_their_rows():
    differences = np.array([1.0, 1.0, 1.0, 0.0])
    interval = paired_cluster_bootstrap(differences, np.array(["x", "x", "x", "y"]), 2000, 0.9, 0)
    # drawn are x twice, y twice or both: means 1, 0 and 3/4
    assert interval == pytest.approx((0.75, 0.0, 1.0))


def test_copies_in_a_cluster_do_not_narrow_the_interval():
    differences = np.random.default_rng(0).normal(size=200)
    alone = paired_cluster_bootstrap(differences, np.arange(200), 4000, 0.95, 1)
    copied = paired_cluster_bootstrap(
        np.repeat(differences, 9), np.repeat(np.arange(200), 9), 4000, 0.95, 1
    )
    assert copied == pytest.approx(alone)


def test_several_differences_share_their_draws():
    differences = np.random.default_rng(0).normal(size=(150, 2))
    clusters = np.arange(150) // 3
    both = bootstrap_columns(differences, clusters, 1000, 0.95, 3)
    for k in range(2):
        alone = paired_cluster_bootstrap(differences[:, k], clusters, 1000, 0.95, 3)
        assert both[k] == pytest.approx(alone)


def test_order_of_rows_does_not_matter():
    rng = np.random.default_rng(0)
    differences, clusters = rng.normal(size=90), rng.integers(30, size=90)
    order = rng.permutation(90)
    first = paired_cluster_bootstrap(differences, clusters, 500, 0.95, 3)
    second = paired_cluster_bootstrap(differences[order], clusters[order], 500, 0.95, 3)
    assert first == pytest.approx(second)


def test_every_draw_has_as_many_clusters_as_the_data(monkeypatch):
    monkeypatch.setattr(bootstrap, "CHUNK", 70)  # so that the last chunk is a part
    ones = np.ones((20, 2))
    sums = bootstrap._resampled_sums(ones, 11, np.random.default_rng(0))
    assert sums.tolist() == [[20, 20]] * 11


def test_95_percent_intervals_cover_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(60), np.tile([1, 2, 3], 20))
    # 400 experiments at once, one a column, with an effect common to each cluster's rows
    effects = rng.normal(size=(60, 400))[clusters] + rng.normal(size=(len(clusters), 400))
    found = bootstrap_columns(0.3 + effects, clusters, 2000, 0.95, 1)
    covered = np.mean([interval.low <= 0.3 <= interval.high for interval in found])
    assert 0.91 <= covered <= 0.98
    # taking the rows for independent covers too seldom: why clusters are drawn
    naive = bootstrap_columns(0.3 + effects, np.arange(len(clusters)), 2000, 0.95, 1)
    assert np.mean([interval.low <= 0.3 <= interval.high for interval in naive]) < covered - 0.03
