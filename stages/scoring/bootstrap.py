"""Confidence intervals for mean differences when rows come in clusters."""

from typing import NamedTuple

import numpy as np

CHUNK = 500_000  # drawn clusters held at a time: 4 MB a working array, which stays in the cache

ENDS = ("", "_low", "_high")  # of the names under which metrics hold an Interval


class Interval(NamedTuple):
    """A mean and its percentile interval; floats, or arrays of shape (k,) for k differences."""

    mean: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray


def paired_cluster_bootstrap(
    differences: np.ndarray,
    clusters: np.ndarray,
    draws: int,
    confidence: float,
    seed: int,
) -> Interval:
    """Bootstrap the mean of per-row differences by drawing whole clusters with replacement.

    The clusters are the unit of resampling, since rows of one cluster (votes on one prompt) are
    not independent. A draw's mean is a ratio: the sum over the drawn clusters' rows divided by
    their number, so clusters of any size are weighted by their rows.

    Args:
        differences: (n,), or (n, k) for k differences resampled together, so that their intervals
            rest on the same draws.
        clusters: (n,) ids of any sortable type.
        draws: bootstrap samples.
        confidence: mass between low and high, for instance 0.95.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        The mean over rows, and the percentiles that leave (1 - confidence) / 2 on each side.

    Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, sections 3.8 and 5.3.
    """
    columns = differences.reshape(len(differences), -1)
    drawn = cluster_bootstrap(columns, clusters, draws, seed)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    mean = columns.mean(axis=0)
    if differences.ndim == 1:
        return Interval(float(mean[0]), float(low[0]), float(high[0]))
    return Interval(mean, low, high)


def cluster_bootstrap(
    values: np.ndarray,
    clusters: np.ndarray,
    draws: int,
    seed: int,
    members: np.ndarray | None = None,
) -> np.ndarray:
    """The means of each draw of whole clusters: (draws, k).

    Args:
        values: (n, k); 0 where a row is no member.
        clusters: (n,) ids of any sortable type.
        members: (n, k), over which rows each column's mean is taken; None means all.
    """
    k = values.shape[1]
    if members is None:
        members = np.ones((len(values), 1))
    totals = _cluster_totals(np.hstack([values, members]), clusters)
    sums = _resampled_sums(totals, draws, np.random.default_rng(seed))
    return sums[:, :k] / sums[:, k:]


def _cluster_totals(columns: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Each cluster's sums of the columns: (clusters, columns)."""
    _, codes = np.unique(clusters, return_inverse=True)
    return np.column_stack([np.bincount(codes, column) for column in columns.T])


def _resampled_sums(totals: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Sums of the totals over each draw's clusters: (draws, columns)."""
    n = len(totals)
    batch = max(1, CHUNK // n)
    sums = np.empty((draws, totals.shape[1]))
    for start in range(0, draws, batch):
        size = min(batch, draws - start)
        drawn = rng.integers(n, size=(size, n), dtype=np.uint32).astype(np.intp)
        drawn += n * np.arange(size)[:, None]  # each draw counts in a stretch of its own
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        sums[start : start + size] = counts.astype(np.float64) @ totals
    return sums
