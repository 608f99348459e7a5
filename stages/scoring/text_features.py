"""What words say of a battle: TF-IDF of its answers, in scripts with and without spaces."""

import re
from array import array
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd
import scipy.sparse as sp

from stages.counting.logistic import Parts
from stages.counting.regression import Inputs

# A row of TF-IDF has length 1 over thousands of words; at this length the prior on the weights of
# standardised counts fits them.
LENGTH = 10.0
MIN_DOCUMENTS, MAX_WORDS = 3, 20_000  # of the training answers
LONGEST_GRAM = 3  # letters, in scripts without spaces

WORD, CHARACTER = re.compile(r"\w\w+"), re.compile(r"\w")
# Thai, Lao, Myanmar, Khmer, kana, Chinese: their letters and the marks in which they write vowels.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+"
)


def words(text: str) -> list[str]:
    """The words of two characters and more; in scripts without spaces, runs of 1 to 3 letters.

    A text that has none of these gives its single characters: an answer may be "4".
    """
    text = text.lower()
    grams = [gram for run in UNSPACED.findall(text) for gram in _grams(run)]
    spaced = UNSPACED.sub(" ", text) if grams else text
    return WORD.findall(spaced) + grams or CHARACTER.findall(text)


def _grams(run: str) -> Iterable[str]:
    for size in range(1, LONGEST_GRAM + 1):
        for start in range(len(run) - size + 1):
            yield run[start : start + size]


def text_inputs(battles: pd.DataFrame) -> Inputs:
    """TF-IDF of answer A minus that of B, signed (which is better) and absolute (tie or not).

    The words and their weights are those of the training rows' answers; texts are split once.

    Args:
        battles: response_a and response_b, lists of turns.
    """
    answers = (turns for side in "ab" for turns in battles[f"response_{side}"])
    counts = count_words("\n\n".join(turns) for turns in answers)
    counts_a, counts_b = counts[: len(battles)], counts[len(battles) :]

    def inputs(train: np.ndarray) -> Parts:
        documents = counts_a[train].getnnz(axis=0) + counts_b[train].getnnz(axis=0)
        kept = _frequent(documents)
        rarity = 1 + np.log((1 + 2 * train.sum()) / (1 + documents[kept]))
        a, b = (_tfidf(counts[:, kept], rarity) for counts in (counts_a, counts_b))
        return a - b, abs(a - b)

    return inputs


def count_words(texts: Iterable[str]) -> sp.csr_matrix:
    """How often each word stands in each text, a column a word in alphabetical order, float32.

    Words of fewer than MIN_DOCUMENTS texts are left out.
    """
    columns: dict[str, int] = {}
    ends, places, counts = array("q", [0]), array("i"), array("i")
    for text in texts:
        found = Counter(words(text))
        places.extend([columns.setdefault(word, len(columns)) for word in found])
        counts.extend(found.values())
        ends.append(len(places))
    documents = np.bincount(places, minlength=len(columns))
    kept = sorted(word for word, place in columns.items() if documents[place] >= MIN_DOCUMENTS)
    values = np.array(counts, dtype=np.float32), np.array(places), np.array(ends)
    matrix = sp.csr_matrix(values, shape=(len(ends) - 1, len(columns)))
    return matrix[:, [columns[word] for word in kept]]


def _frequent(documents: np.ndarray) -> np.ndarray:
    """Columns found in at least MIN_DOCUMENTS rows, at most the MAX_WORDS most frequent."""
    most = np.argsort(-documents, kind="stable")[:MAX_WORDS]
    return np.sort(most[documents[most] >= MIN_DOCUMENTS])


def _tfidf(counts: sp.csr_matrix, rarity: np.ndarray) -> sp.csr_matrix:
    """Rows of the logs of counts, by the rarity of their words, scaled to LENGTH."""
    weights = (1 + np.log(counts.data)) * rarity.astype(np.float32)[counts.indices]
    rows = sp.csr_matrix((weights, counts.indices, counts.indptr), counts.shape)
    lengths = sp.linalg.norm(rows, axis=1)
    scale = LENGTH / np.where(lengths > 0, lengths, 1)
    rows.data *= np.repeat(scale.astype(np.float32), np.diff(rows.indptr))
    return rows


def joined_inputs(text: Inputs, numeric: Inputs) -> Inputs:
    """Both side by side."""

    def inputs(train: np.ndarray) -> Parts:
        odd, even = (
            sp.hstack([left, sp.csr_matrix(right, dtype=np.float32)], "csr")
            for left, right in zip(text(train), numeric(train), strict=True)
        )
        return odd, even

    return inputs
