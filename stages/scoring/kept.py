"""A baseline that is kept to predict new battles: fitted on all votes, and plain data.

The out-of-fold predictions of stages.scoring.baselines are those of the same fit on other folds.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.preprocessing import StandardScaler

from stages.counting.features import contrasts, count_features, exchanged
from stages.counting.logistic import EVEN, Logistic, Parts, fit
from stages.counting.regression import C_COUNTS, halves
from stages.scoring.baselines import C_LENGTH, length_design
from stages.scoring.text_features import (
    answers,
    beside,
    count_known_words,
    count_words,
    kept_words,
    text_parts,
)
from stages.votes.labels import floored, from_logits, votes_of

Numbers = Callable[[pd.DataFrame], pd.DataFrame]  # from count_features to what a regression reads
OF_A_NUMBER = ["mean", "scale", "odd", "even"]
OF_A_WORD = ["rarity", "odd", "even"]


@dataclass(frozen=True)
class Regression:
    """What a baseline's regression reads, and the strength of its prior."""

    numbers: Numbers | None = None
    words: bool = False
    strength: float = C_COUNTS


# By the names of stages.scoring.baselines.BASELINES.
REGRESSIONS = {
    "prior": Regression(),
    "length": Regression(numbers=length_design, strength=C_LENGTH),
    "counts": Regression(numbers=contrasts),
    "tfidf": Regression(words=True),
    "tfidf_counts": Regression(numbers=contrasts, words=True),
}


@dataclass(frozen=True)
class Kept:
    """A fitted baseline.

    Attributes:
        name: of the baseline.
        intercept: (C,) by class.
        numbers: a row a feature: its mean and scale, and its weights `odd` and `even`, which
            stages.counting.logistic explains.
        words: a row a word: its rarity, and its weights.
    """

    name: str
    intercept: np.ndarray
    numbers: pd.DataFrame
    words: pd.DataFrame

    def predict(self, battles: pd.DataFrame) -> np.ndarray:
        """Probabilities (n, C); the order of the answers changes nothing.

        Args:
            battles: prompt, response_a and response_b, each row a list of turns.
        """
        logits = np.tile(self.intercept, (len(battles), 1))
        if len(self.words):
            logits += self._logits(self.words, _text(battles, self.words))
        read = REGRESSIONS[self.name].numbers
        if read:
            parts = _numeric(read, count_features(battles), self.numbers)
            logits += self._logits(self.numbers, parts)
        return from_logits(logits)

    def _logits(self, weights: pd.DataFrame, parts: Parts) -> np.ndarray:
        odd, even = weights.odd.to_numpy(), weights.even.to_numpy()
        return Logistic(odd, even, 0.0, len(self.intercept)).logits(parts)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        content = {
            "name": self.name,
            "intercept": self.intercept.tolist(),
            "numbers": self.numbers.to_dict("index"),
            "words": self.words.to_dict("index"),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def load(path: Path) -> Kept:
    """The baseline of a file that `save` wrote."""
    values = json.loads(path.read_text(encoding="utf-8"))
    numbers, words = (
        pd.DataFrame(list(values[name].values()), index=list(values[name]), columns=columns)
        for name, columns in (("numbers", OF_A_NUMBER), ("words", OF_A_WORD))
    )
    return Kept(values["name"], np.array(values["intercept"]), numbers, words)


def keep(name: str, battles: pd.DataFrame) -> Kept:
    """Fit a baseline on all of these votes.

    Args:
        name: one of REGRESSIONS.
        battles: prompt, response_a, response_b (lists of turns), targets and weight.
    """
    votes, regression = votes_of(battles), REGRESSIONS[name]
    words = _words(battles) if regression.words else pd.DataFrame(columns=OF_A_WORD, dtype=float)
    numbers = pd.DataFrame(columns=OF_A_NUMBER, dtype=float)
    if not regression.words and not regression.numbers:
        return Kept(name, np.log(floored(votes.shares[None]))[0], numbers, words)
    parts = _text(battles, words) if regression.words else None
    if regression.numbers:
        features = count_features(battles)
        numbers = _scaled(regression.numbers, features)
        numeric = _numeric(regression.numbers, features, numbers)
        parts = beside(parts, numeric) if parts else numeric
    assert parts is not None  # as one of both is read
    fitted = fit(parts, votes, regression.strength)
    first = len(words)
    return Kept(
        name,
        fitted.constant * EVEN[: votes.classes],
        numbers.assign(odd=fitted.odd[first:], even=fitted.even[first:]),
        words.assign(odd=fitted.odd[:first], even=fitted.even[:first]),
    )


def _scaled(read: Numbers, features: pd.DataFrame) -> pd.DataFrame:
    """Mean and scale of each feature over both orders of the answers."""
    both = pd.concat([read(features), read(exchanged(features))])
    scaler = StandardScaler().fit(both.to_numpy())
    return pd.DataFrame({"mean": scaler.mean_, "scale": scaler.scale_}, index=both.columns)


def _numeric(read: Numbers, features: pd.DataFrame, scaled: pd.DataFrame) -> Parts:
    mean, scale = scaled["mean"].to_numpy(), scaled["scale"].to_numpy()
    tables = (read(each)[scaled.index] for each in (features, exchanged(features)))
    ab, ba = ((table.to_numpy() - mean) / scale for table in tables)
    return halves(ab, ba)


def _words(battles: pd.DataFrame) -> pd.DataFrame:
    """The words that are read, and how rare they are."""
    found, counts = count_words(answers(battles))
    kept, rarity = kept_words(counts[: len(battles)], counts[len(battles) :])
    return pd.DataFrame({"rarity": rarity}, index=[found[place] for place in kept])


def _text(battles: pd.DataFrame, words: pd.DataFrame) -> Parts:
    counts = count_known_words(answers(battles), words.index)
    return text_parts(counts[: len(battles)], counts[len(battles) :], words.rarity.to_numpy())
