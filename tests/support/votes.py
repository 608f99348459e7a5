"""Made-up votes that length predicts."""

import numpy as np
import pandas as pd

WORDS = np.array(["river", "stone", "cloud", "lamp", "paper", "green", "seven", "often"])


def make_votes(n: int, effect: float, seed: int = 0) -> pd.DataFrame:
    """Battles of random words in which the longer answer wins more often, by `effect`."""
    rng = np.random.default_rng(seed)
    lengths = np.exp(rng.normal(3, 1, size=(n, 2))).astype(int) + 1
    ratio = np.log(lengths[:, 0] / lengths[:, 1])
    logits = np.column_stack([effect * ratio, -effect * ratio, np.zeros(n)])
    label = (logits + rng.gumbel(size=(n, 3))).argmax(axis=1).astype(np.int8)
    sides = [[[" ".join(rng.choice(WORDS, size))] for size in lengths[:, i]] for i in (0, 1)]
    prompts = [[f"question {i}"] for i in range(n)]
    ids = pd.array([f"id-{i}" for i in range(n)], dtype="string")
    names = ("id", "prompt", "response_a", "response_b", "label")
    return pd.DataFrame(dict(zip(names, (ids, prompts, *sides, label), strict=True)))


def make_folds(n: int, k: int = 3) -> np.ndarray:
    return np.random.default_rng(1).permutation(np.arange(n) % k)
