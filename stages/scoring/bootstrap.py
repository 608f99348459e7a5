"""Confidence intervals for mean differences when rows come in clusters."""

from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

CHUNK = 500_000  # drawn clusters held at a time: 4 MB a working array, which stays in the cache

ENDS = ("", "_low", "_high")  # of the names under which metrics hold an Interval


class Interval(NamedTuple):
    """A mean and its percentile interval."""

    mean: float
    low: float
    high: float


def paired_cluster_bootstrap(
    differences: np.ndarray,
    clusters: np.ndarray,
    draws: int,
    confidence: float,
    seed: int,
    weights: np.ndarray | None = None,
) -> Interval:
    """Bootstrap the mean of per-row differences by drawing whole clusters with replacement.

    The clusters are the unit of resampling, since rows of one cluster (votes on one prompt) are
    not independent. A draw's mean is a ratio: the sum over the drawn clusters' rows divided by
    their number, so clusters of any size are weighted by their rows.

    Args:
        differences: (n,).
        clusters: (n,) ids of any sortable type.
        draws: bootstrap samples.
        confidence: mass between low and high, for instance 0.95.
        seed: of the draws; the same seed gives the same interval.
        weights: (n,) of the rows in every mean; equal ones if None.

    Returns:
        The mean over rows, and the percentiles that leave (1 - confidence) / 2 on each side.

    Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, sections 3.8 and 5.3.
    """
    columns = differences[:, None]
    [interval] = bootstrap_columns(columns, clusters, draws, confidence, seed, weights)
    return interval


def bootstrap_columns(
    differences: np.ndarray,
    clusters: np.ndarray,
    draws: int,
    confidence: float,
    seed: int,
    weights: np.ndarray | None = None,
) -> list[Interval]:
    """The paired_cluster_bootstrap of each column of (n, k) differences, all on the same draws."""
    shares = None if weights is None else weights[:, None]
    drawn = cluster_bootstrap(differences, clusters, draws, seed, shares)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    means = np.average(differences, axis=0, weights=weights)
    columns = zip(means, low, high, strict=True)
    return [Interval(*map(float, column)) for column in columns]


def cluster_bootstrap(
    values: np.ndarray,
    clusters: np.ndarray,
    draws: int,
    seed: int,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """The means of each draw of whole clusters: (draws, k).

    Args:
        values: (n, k), or (n, 1) for all columns.
        clusters: (n,) ids of any sortable type.
        weights: (n, k), or (n, 1) for all columns; 0 where a row is no part of a column's
            mean; equal ones if None.
    """
    if weights is None:
        weights = np.ones((len(values), 1))
    weighted = values * weights
    totals = _cluster_totals(np.hstack([weighted, weights]), clusters)
    with threadpool_limits(1):  # its products are small: more threads wait for each other
        sums = _resampled_sums(totals, draws, np.random.default_rng(seed))
    return sums[:, : weighted.shape[1]] / sums[:, weighted.shape[1] :]


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
