"""Rows that cannot be used: set aside with their place and the reason, and a limit to how many."""

from collections import Counter
from pathlib import Path

import pandas as pd

from stages.config.errors import UserError


def set_aside(quarantine: pd.DataFrame, rows_in: int, limit: float, path: Path) -> None:
    """Write the bad rows of a file, and then stop if they are too many; see check_quarantine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    quarantine.to_csv(path, index=False, encoding="utf-8")
    check_quarantine(quarantine, rows_in, limit, path)


def check_quarantine(quarantine: pd.DataFrame, rows_in: int, limit: float, listed: Path) -> None:
    """Stop when more than the allowed share of the rows is bad, or all of them.

    Raises:
        UserError: with the share, the commonest reasons and where the rows are listed.
    """
    share = len(quarantine) / rows_in
    if share <= limit and share < 1:
        return
    reasons = Counter(quarantine.reason).most_common(5)
    told = "\n".join(f"  {count} times: {reason}" for reason, count in reasons)
    raise UserError(
        f"{len(quarantine)} of {rows_in} rows ({share:.2%}) cannot be used, and "
        f"data.max_quarantined allows {limit:.2%}:\n{told}\nThey are listed in {listed}: "
        "mend the file that params.yaml names, or raise data.max_quarantined there"
    )
