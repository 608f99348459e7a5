"""What length and format say of a battle, added to a backbone's logits as a fixed offset.

The backbone then starts from what the `counts` baseline knows, and learns what lies beyond it. A
term of known weight is called an offset in generalised linear models (McCullagh and Nelder 1989).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.preprocessing import StandardScaler

from stages.config.errors import UserError
from stages.counting import regression
from stages.counting.features import contrasts, count_features, exchanged
from stages.votes.labels import LABELS, Votes, floored, from_logits, mirrored, votes_of

INNER_FOLDS = 5


@dataclass(frozen=True)
class Offset:
    """A fitted regression on length and format.

    Attributes:
        weights: a row a feature of stages.counting.features.contrasts, a column a class.
        intercept: by class.
    """

    weights: pd.DataFrame
    intercept: pd.Series

    def of(self, features: pd.DataFrame) -> np.ndarray:
        """Offsets of battles by their stages.counting.features.count_features: (n, C)."""
        ab, ba = (
            from_logits(contrasts(table)[self.weights.index] @ self.weights + self.intercept)
            for table in (features, exchanged(features))
        )
        return offsets((ab + mirrored(ba)) / 2)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        values = {"intercept": self.intercept.to_dict(), "weights": self.weights.T.to_dict()}
        text = json.dumps(values, indent=2, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")


def load(path: Path) -> Offset:
    """The offset of a file that `save` wrote."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return Offset(pd.DataFrame(values["weights"]).T, pd.Series(values["intercept"]))


def offsets(probabilities: np.ndarray) -> np.ndarray:
    """Log probabilities (n, C) less their mean, so that an answer's logits rise as others fall."""
    logs = np.log(floored(probabilities))
    return (logs - logs.mean(axis=1, keepdims=True)).astype(np.float32)


def fit(features: pd.DataFrame, votes: Votes) -> Offset:
    """Fit the regression of the `counts` baseline.

    Args:
        features: stages.counting.features.count_features of the battles to fit.
    """
    tables = contrasts(features), contrasts(exchanged(features))
    scaler = StandardScaler().fit(pd.concat(tables).to_numpy())
    ab, ba = (scaler.transform(table.to_numpy()) for table in tables)
    model = regression.fit(regression.halves(ab, ba), votes, regression.C_COUNTS)
    names = list(LABELS[: votes.classes])
    weights, intercept = model.by_class()
    weights /= scaler.scale_
    return Offset(
        pd.DataFrame(weights.T, index=tables[0].columns, columns=names),
        pd.Series(intercept - weights @ scaler.mean_, index=names),
    )


def of_training(features: pd.DataFrame, votes: Votes, groups: np.ndarray) -> np.ndarray:
    """Offsets (n, C) of the battles that are trained on, each by a regression without its group.

    As the held-out ones are predicted; by a regression that saw their votes they would be surer.

    Raises:
        UserError: there are too few votes of a kind for that.
    """
    folds, inputs = regression.group_folds(groups, INNER_FOLDS), regression.count_inputs(features)
    if not regression.all_classes_seen(votes, folds):
        raise UserError(
            "train.offset is fitted on votes for each class in several prompt groups, "
            f"and {len(votes)} training votes have too few: set it to false, or take more rows"
        )
    return offsets(regression.out_of_fold(inputs, votes, folds, regression.C_COUNTS))


def fold_offsets(
    training: pd.DataFrame, held_out: pd.DataFrame
) -> tuple[Offset, np.ndarray, np.ndarray]:
    """Fit on the battles to train on; returns it, their offsets and those of the held-out ones.

    Args:
        training: prompt, response_a, response_b (lists of turns), targets, weight and group.
        held_out: the same without targets, weight and group.
    """
    features, votes = count_features(training), votes_of(training)
    own = of_training(features, votes, training.group.to_numpy())
    fitted = fit(features, votes)
    return fitted, own, fitted.of(count_features(held_out))
