"""What can be counted in a battle without reading it: length and format.

Every count comes once for answer A and once for B, in columns that end in `_a` and `_b`, so that a
battle with its answers exchanged is the same table with those columns exchanged.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

# Regular expressions of RE2, which pyarrow runs over whole columns; lines are matched with (?m).
ANSWER_PATTERNS = {
    "words": r"\S+",
    "newlines": r"\n",
    "paragraphs": r"\n\s*\n",
    "bullets": r"(?m)^\s*[-*•] ",
    "numbered": r"(?m)^\s*\d+[.)] ",
    "headings": r"(?m)^(#+ |\*\*.+\*\*:?$)",
    "code_blocks": r"```",
    "code_spans": r"`[^`\n]+`",
    "bold": r"\*\*[^*\n]+\*\*",
    "table_cells": r"\|",
    "links": r"https?://",
    "formulas": r"\$|\\[(\[]",
    "digits": r"[0-9]",
    "capitals": r"[A-Z]",
    "non_ascii": r"[^\x00-\x7f]",
    "question_marks": r"\?",
    "exclamation_marks": r"!",
    "commas": r",",
    "colons": r":",
    "quotes": r'"',
    "brackets": r"[()]",
    "first_person": r"\bI\b|\bI'",
    "apologies": r"(?i)\bsorry\b|apologi[sz]e|as an ai\b|language model|i can(?:no|')t|unable to",
}
PROMPT_PATTERNS = {
    "words": r"\S+",
    "newlines": r"\n",
    "code_blocks": r"```",
    "digits": r"[0-9]",
    "non_ascii": r"[^\x00-\x7f]",
    "question_marks": r"\?",
}


def count_features(battles: pd.DataFrame) -> pd.DataFrame:
    """Count characters, turns and format marks of each prompt and both answers.

    Args:
        battles: prompt, response_a, response_b, each row a list of turns.

    Returns:
        n rows in the same order and index; `prompt_NAME`, `NAME_a` and `NAME_b`, as float64.
    """
    turns = {"prompt_turns": battles.prompt.map(len)}
    prompt = _count(_joined(battles.prompt), PROMPT_PATTERNS)
    sides = {
        side: _count(_joined(battles[f"response_{side}"]), ANSWER_PATTERNS) for side in ("a", "b")
    }
    columns = {f"prompt_{name}": values for name, values in prompt.items()}
    for name in sides["a"]:
        columns |= {f"{name}_{side}": counts[name] for side, counts in sides.items()}
    return pd.DataFrame(turns | columns, index=battles.index).astype(np.float64)


def _joined(turns: pd.Series) -> pa.Array:
    """Each row's turns as one text, blank lines between them."""
    return pa.array(["\n\n".join(row) for row in turns], type=pa.large_string())


def _count(texts: pa.Array, patterns: dict[str, str]) -> dict[str, np.ndarray]:
    def count(pattern: str) -> np.ndarray:
        return pc.count_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)

    with ThreadPoolExecutor() as pool:  # pyarrow lets go of Python's lock
        counts = dict(zip(patterns, pool.map(count, patterns.values()), strict=True))
    return {"chars": pc.utf8_length(texts).to_numpy(zero_copy_only=False), **counts}


def exchanged(features: pd.DataFrame) -> pd.DataFrame:
    """The features of the same battles with answers A and B exchanged; the columns keep order."""
    other = {"_a": "_b", "_b": "_a"}
    names = {c: c[:-2] + other[c[-2:]] for c in features.columns if c[-2:] in other}
    return features.rename(columns=names)[features.columns]


def contrasts(features: pd.DataFrame) -> pd.DataFrame:
    """Logs of all counts, and of each answer count the signed and absolute difference A - B.

    Logs, since counts of texts spread over orders of magnitude and readers compare by ratio.
    """
    logs = np.log1p(features)
    names = [c[:-2] for c in features.columns if c.endswith("_a")]
    difference = pd.DataFrame(
        {f"{name}_difference": logs[f"{name}_a"] - logs[f"{name}_b"] for name in names}
    )
    return pd.concat([logs, difference, difference.abs().add_suffix("_absolute")], axis=1)
