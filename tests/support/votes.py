"""Made-up votes that length predicts, and plain votes from labels."""

import numpy as np
import pandas as pd

from stages.votes.labels import TARGETS, Votes

WORDS = np.array(["river", "stone", "cloud", "lamp", "paper", "green", "seven", "often"])


def cast(labels: np.ndarray | list[int], weights: object = 1.0, classes: int = 3) -> Votes:
    """Plain votes for these labels."""
    return Votes(np.eye(classes)[labels], np.broadcast_to(weights, len(labels)).astype(float))


def with_votes(battles: pd.DataFrame, labels: np.ndarray | list[int]) -> pd.DataFrame:
    """Battles with plain votes for these labels, as `prepare` writes them."""
    labels = np.asarray(labels, dtype=np.int8)
    targets = dict(zip(TARGETS, np.eye(3)[labels].T, strict=True))
    return battles.assign(label=labels, **targets, weight=1.0, training_only=False)


def make_votes(n: int, effect: float, seed: int = 0) -> pd.DataFrame:
    """Battles of random words in which the longer answer wins more often, by `effect`."""
    rng = np.random.default_rng(seed)
    lengths = np.exp(rng.normal(3, 1, size=(n, 2))).astype(int) + 1
    ratio = np.log(lengths[:, 0] / lengths[:, 1])
    logits = np.column_stack([effect * ratio, -effect * ratio, np.zeros(n)])
    label = (logits + rng.gumbel(size=(n, 3))).argmax(axis=1)
    sides = [[[" ".join(rng.choice(WORDS, size))] for size in lengths[:, i]] for i in (0, 1)]
    prompts = [[f"question {i}"] for i in range(n)]
    ids = pd.array([f"id-{i}" for i in range(n)], dtype="string")
    names = ("id", "prompt", "response_a", "response_b")
    frame = pd.DataFrame(dict(zip(names, (ids, prompts, *sides), strict=True)))
    return with_votes(frame.assign(source="votes", language=None), label)


def make_folds(n: int, k: int = 3) -> np.ndarray:
    return np.random.default_rng(1).permutation(np.arange(n) % k)
