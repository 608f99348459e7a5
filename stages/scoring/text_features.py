"""What words say of a battle: TF-IDF of its answers, in scripts with and without spaces."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice

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
BATCH = 1_000  # texts whose words are held at once

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
    runs = () if text.isascii() else UNSPACED.findall(text)
    grams = [gram for run in runs for gram in _grams(run)]
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
    _, counts = count_words(answers(battles))
    counts_a, counts_b = counts[: len(battles)], counts[len(battles) :]

    def inputs(train: np.ndarray) -> tuple[Parts, Parts]:
        kept, rarity = kept_words(counts_a[train], counts_b[train])

        def parts(rows: np.ndarray) -> Parts:
            return text_parts(counts_a[rows][:, kept], counts_b[rows][:, kept], rarity)

        return parts(train), parts(~train)

    return inputs


def answers(battles: pd.DataFrame) -> Iterable[str]:
    """Each answer as one text: those of A in the order of the battles, then those of B."""
    turns = (row for side in "ab" for row in battles[f"response_{side}"])
    return ("\n\n".join(row) for row in turns)


def kept_words(counts_a: sp.csr_matrix, counts_b: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Which columns of counts are used, and how rare their words are, from training answers."""
    documents = counts_a.getnnz(axis=0) + counts_b.getnnz(axis=0)
    kept = _frequent(documents)
    return kept, 1 + np.log((1 + 2 * counts_a.shape[0]) / (1 + documents[kept]))


def text_parts(counts_a: sp.csr_matrix, counts_b: sp.csr_matrix, rarity: np.ndarray) -> Parts:
    """Inputs from the counts of the kept words in both answers, and from their rarity."""
    a, b = (_tfidf(counts, rarity) for counts in (counts_a, counts_b))
    odd = a - b
    return odd, sp.csr_matrix((abs(odd.data), odd.indices, odd.indptr), odd.shape)


def count_words(texts: Iterable[str]) -> tuple[list[str], sp.csr_matrix]:
    """How often each word stands in each text.

    Returns:
        The words in alphabetical order, without those of fewer than MIN_DOCUMENTS texts; and the
        counts, a column a word, as float32.
    """
    columns: defaultdict[str, int] = defaultdict(lambda: len(columns))
    matrix = _counts(map(words, texts), columns)
    documents = matrix.getnnz(axis=0)
    kept = sorted(word for word, place in columns.items() if documents[place] >= MIN_DOCUMENTS)
    return kept, matrix[:, [columns[word] for word in kept]]


def count_known_words(texts: Iterable[str], known: Iterable[str]) -> sp.csr_matrix:
    """How often each of the known words stands in each text, a column a word, float32."""
    columns = {word: place for place, word in enumerate(known)}
    return _counts(([w for w in words(text) if w in columns] for text in texts), columns)


def _counts(texts: Iterator[list[str]], columns: Mapping[str, int]) -> sp.csr_matrix:
    """Counts by column; those of a text are in the order in which its words first stand in it."""
    parts = []
    while batch := list(islice(texts, BATCH)):
        lengths = list(map(len, batch))
        rows = np.repeat(np.arange(len(batch)), lengths)
        places = np.fromiter(map(columns.__getitem__, chain.from_iterable(batch)), np.int64)
        codes, cells = pd.factorize(rows << 32 | places)  # a number for each row and column
        ends = np.bincount(cells >> 32, minlength=len(batch))
        parts.append((np.bincount(codes), (cells & (2**32 - 1)).astype(np.int32), ends))
    counts, places, ends = (np.concatenate(part) for part in zip(*parts, strict=True))
    values = counts.astype(np.float32), places, np.append(0, ends.cumsum())
    return sp.csr_matrix(values, shape=(len(ends), len(columns)))


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

    def inputs(train: np.ndarray) -> tuple[Parts, Parts]:
        left, right = text(train), numeric(train)
        return beside(left[0], right[0]), beside(left[1], right[1])

    return inputs


def beside(text: Parts, numeric: Parts) -> Parts:
    """Inputs of both kinds, those of texts first."""
    odd, even = (
        sp.hstack([left, sp.csr_matrix(right, dtype=np.float32)], "csr")
        for left, right in zip(text, numeric, strict=True)
    )
    return odd, even
