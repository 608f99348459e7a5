"""Examples of arena-like lengths: random tokens, the same in every run."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.throughput.published import PAD

# Tokens of 2,471 real votes in this project's prompt, uncut, by a tokenizer of 262,144 tokens
# (Gemma 3's): quantiles at these shares. Roughly lognormal, exp(6.21 ± 0.88).
SHARES = [0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1]
TOKENS = [31, 55, 105, 144, 233, 334, 449, 562, 685, 808, 981, 1375, 1847, 3564, 11122]


@dataclass(frozen=True)
class Batch:
    """The examples of one optimiser step."""

    ids: list[list[int]]
    labels: list[int]

    @property
    def tokens(self) -> int:
        """Tokens of all examples; padding is none of them."""
        return sum(map(len, self.ids))


def arena_lengths(count: int, max_tokens: int, seed: int = 0) -> list[int]:
    """Lengths at evenly spaced quantiles of the votes', cut at `max_tokens`, shuffled."""
    shares = (np.arange(count) + 0.5) / count
    lengths = np.minimum(np.interp(shares, SHARES, TOKENS).round(), max_tokens).astype(int).tolist()
    return random.Random(seed).sample(lengths, count)


def batches(lengths: Sequence[int], batch_size: int, vocabulary: int, seed: int = 0) -> list[Batch]:
    """Examples of these lengths with random tokens and labels, `batch_size` a step."""
    rng = random.Random(seed)
    tokens = range(PAD + 1, vocabulary)
    examples = [(rng.choices(tokens, k=length), rng.randrange(3)) for length in lengths]
    parts = (examples[i : i + batch_size] for i in range(0, len(examples), batch_size))
    return [Batch(*map(list, zip(*part, strict=True))) for part in parts]
