"""Time the statistics of one pair of runs at the competition's size.

    python -m bench.compare_57k

57,477 made-up votes, 10,000 draws of the bootstrap over prompt groups, with every class and slice,
as `stages.compare` computes them. Prints the median of three runs. Limit: 10 s.
"""

import argparse
import statistics
import time

import numpy as np
import pandas as pd

from stages.comparison import paired

ROWS, DRAWS = 57_477, 10_000


def main() -> None:
    """Print the seconds of three runs and their median."""
    argparse.ArgumentParser(
        prog="python -m bench.compare_57k",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "group": rng.integers(int(0.98 * ROWS), size=ROWS),
            "label": rng.choice(["a", "b", "tie"], ROWS),
            "turns": rng.choice(["one", "several"], ROWS, p=[0.87, 0.13]),
            "length": rng.choice(["short", "medium", "long"], ROWS),
            "script": rng.choice(["latin", "cyrillic", "cjk"], ROWS, p=[0.9, 0.05, 0.05]),
            "truncated": rng.choice(["no", "yes"], ROWS, p=[0.8, 0.2]),
        }
    )
    difference = rng.normal(scale=0.25, size=ROWS)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        paired.bootstrap(difference, rows, DRAWS, 0.95, 0)
        seconds.append(time.perf_counter() - start)
    print(f"{statistics.median(seconds):.1f} s ({', '.join(f'{s:.1f}' for s in seconds)})")


if __name__ == "__main__":
    main()
