"""What stages.planning.worlds holds: how two backbones differ by vote, by fold.

    python -m bench.study.spread VOTES smollm2-classify gemma-classify

Prints, over all pairs of the two's seeds, quantiles of the votes' differences in log loss, their
correlation within a prompt, and the fold effect: the variance of the folds' means less what the
sampling of votes, by prompts, explains; the root of its mean, with the least and the most.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from bench.study.restore import FOLDER, losses, read_votes, restore
from stages.config.errors import UserError, stage
from stages.planning.worlds import SHARES


@stage
def main() -> None:
    """Print the constants."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.study.spread",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("votes", type=Path, help="the file of raw votes")
    parser.add_argument("first", help="a backbone as trained, as docs/results_appendix.md names it")
    parser.add_argument("second", help="another")
    options = parser.parse_args()
    restored = restore(FOLDER, read_votes(FOLDER, options.votes))
    seeds = {c.name: c.seeds for c in restored.combinations}
    names = (options.first, options.second)
    if not set(names) <= seeds.keys() or options.first == options.second:
        raise UserError(f"expected two of {', '.join(sorted(seeds))}, found {' and '.join(names)}")
    table = restored.runs[0].rows[["fold", "group"]]
    found = [
        table.assign(difference=(losses([a]) - losses([b]))[0])
        for a, b in product(*(seeds[name] for name in names))
    ]
    centred = np.concatenate([pair.difference - pair.difference.mean() for pair in found])
    effects = [max(fold_effect(pair), 0) ** 0.5 for pair in found]
    print("standard deviation", round(np.mean([pair.difference.std() for pair in found]), 3))
    print("quantiles", np.quantile(centred, SHARES).round(3).tolist())
    print("within a prompt", round(np.mean([within_prompt(pair) for pair in found]), 3))
    print(
        "fold effect",
        round(np.sqrt(np.mean(np.square(effects))), 4),
        min(effects),
        round(max(effects), 4),
    )


def fold_effect(pair: pd.DataFrame) -> float:
    """Variance over folds of the mean difference, less that which sampling prompts gives it."""
    by_fold = pair.groupby("fold")
    folds = [fold.assign(x=fold.difference - fold.difference.mean()) for _, fold in by_fold]
    sampling = [(fold.groupby("group").x.sum() ** 2).sum() / len(fold) ** 2 for fold in folds]
    return by_fold.difference.mean().var() - np.mean(sampling)


def within_prompt(pair: pd.DataFrame) -> float:
    """Correlation of the differences of two votes on one prompt."""
    x = (pair.difference - pair.difference.mean()).groupby(pair.group)
    products = (x.sum() ** 2 - x.apply(lambda values: (values**2).sum())).sum() / 2
    size = x.size()
    return products / (size * (size - 1) / 2).sum() / pair.difference.var()


if __name__ == "__main__":
    main()
