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
from stages.votes.labels import LABELS, MIRRORED, floored, from_logits

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
        """Offsets of battles by their stages.counting.features.count_features: (n, 3)."""
        ab, ba = (
            from_logits(contrasts(table)[self.weights.index] @ self.weights + self.intercept)
            for table in (features, exchanged(features))
        )
        return offsets((ab + ba[:, MIRRORED]) / 2)

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
    """Log probabilities (n, 3) less their mean, so that an answer's logits rise as others fall."""
    logs = np.log(floored(probabilities))
    return (logs - logs.mean(axis=1, keepdims=True)).astype(np.float32)


def fit(features: pd.DataFrame, labels: np.ndarray) -> Offset:
    """Fit the regression of the `counts` baseline.

    Args:
        features: stages.counting.features.count_features of the battles to fit.
        labels: (n,) 0 = A, 1 = B, 2 = tie.

    """
    tables = contrasts(features), contrasts(exchanged(features))
    scaler = StandardScaler().fit(pd.concat(tables).to_numpy())
    ab, ba = (scaler.transform(table.to_numpy()) for table in tables)
    model = regression.fit((ab, ba), labels, regression.C_COUNTS)
    weights = model.coef_ / scaler.scale_
    return Offset(
        pd.DataFrame(weights.T, index=tables[0].columns, columns=list(LABELS)),
        pd.Series(model.intercept_ - weights @ scaler.mean_, index=list(LABELS)),
    )


def of_training(features: pd.DataFrame, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Offsets (n, 3) of the battles that are trained on, each by a regression without its group.

    As the held-out ones are predicted; by a regression that saw their votes they would be surer.

    Raises:
        UserError: there are too few votes of a kind for that.
    """
    folds, inputs = regression.group_folds(groups, INNER_FOLDS), regression.count_inputs(features)
    if not regression.all_classes_seen(labels, folds):
        raise UserError(
            "train.offset is fitted on votes for A, for B and ties in several prompt groups each, "
            f"and {len(labels)} training votes have too few: set it to false, or take more rows"
        )
    return offsets(regression.out_of_fold(inputs, labels, folds, regression.C_COUNTS))


def fold_offsets(
    training: pd.DataFrame, held_out: pd.DataFrame
) -> tuple[Offset, np.ndarray, np.ndarray]:
    """Fit on the battles to train on; returns it, their offsets and those of the held-out ones.

    Args:
        training: prompt, response_a, response_b (lists of turns), label and group.
        held_out: the same without label and group.
    """
    features, labels = count_features(training), training.label.to_numpy()
    own = of_training(features, labels, training.group.to_numpy())
    fitted = fit(features, labels)
    return fitted, own, fitted.of(count_features(held_out))
