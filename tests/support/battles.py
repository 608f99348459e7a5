"""A few made-up battles of several turns."""

import pandas as pd

from tests.support.votes import with_votes


def make_battles() -> pd.DataFrame:
    """24 battles of one to three turns, the better answer marked by a word."""
    rows = []
    for i in range(24):
        turns = 1 + i % 3
        words = {0: ("good", "bad"), 1: ("bad", "good"), 2: ("good", "good")}[i % 3]
        rows.append(
            {
                "id": f"id-{i}",
                "prompt": [f"question {i} turn {t}" for t in range(turns)],
                "response_a": [f"a {words[0]} answer {i}" for _ in range(turns)],
                "response_b": [f"a {words[1]} reply {i}" * (1 + i % 4) for _ in range(turns)],
                "source": "votes",
            }
        )
    return with_votes(pd.DataFrame(rows), [i % 3 for i in range(24)])
