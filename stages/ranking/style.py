"""Length and format of two answers, as differences that a rating holds constant."""

import numpy as np
import pandas as pd

from stages.counting.features import contrasts, count_features

# Of stages.counting.features: what does not change with what an answer says.
STYLE = (
    "chars",
    "paragraphs",
    "headings",
    "bold",
    "bullets",
    "numbered",
    "code_blocks",
    "table_cells",
)


def style_differences(battles: pd.DataFrame) -> pd.DataFrame:
    """How much more answer A has of each STYLE than B, in standard deviations: (n, p).

    The difference is one of logs, since readers compare by ratio. It is not centred: its sign
    changes when the answers are exchanged. A feature that never differs is left out.

    Args:
        battles: prompt, response_a, response_b, each row a list of turns.
    """
    table = contrasts(count_features(battles))[[f"{name}_difference" for name in STYLE]]
    table.columns = list(STYLE)
    spread = np.sqrt((table**2).mean())
    differing = spread[spread > 0].index
    return table[differing] / spread[differing]
