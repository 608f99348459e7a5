"""Every out-of-fold prediction of a run, by name, and the table in which other runs meet it."""

import unicodedata
from collections import Counter
from functools import partial

import numpy as np
import pandas as pd

from stages.config.params import Evaluate
from stages.scoring import calibration
from stages.scoring.learning import pooled
from stages.scoring.predictions import columns


def all_probabilities(
    battles: pd.DataFrame,
    ab: np.ndarray,
    ba: np.ndarray,
    baselines: dict[str, np.ndarray],
    settings: Evaluate,
) -> tuple[dict[str, np.ndarray], dict]:
    """Every out-of-fold prediction of the battles that is scored, by name.

    Args:
        battles: label, fold, group and the answers; all others are in the same order.
        ab, ba: (n, 3) probabilities of the backbone in both orders.
        baselines: the same of each baseline, by name.

    Returns:
        The baselines', `ab`, `ba`, their mean `backbone`, `features` and `with_features` (the
        `counts` baseline alone and with the backbone, as `pooled` has them), `calibrated`, and
        `by_rule` (calibration and rules); and the calibration of all rows, for new battles.
    """
    labels, folds = battles.label.to_numpy(), battles.fold.to_numpy()
    backbone = (ab + ba) / 2
    found = calibration.kinds(battles)
    cross = partial(calibration.out_of_fold, labels, backbone, found, folds, settings.calibration)
    pool = partial(pooled, labels=labels, folds=folds, groups=battles.group.to_numpy())
    probabilities = {
        **baselines,
        "ab": ab,
        "ba": ba,
        "backbone": backbone,
        "features": pool([baselines["counts"]]),
        "with_features": pool([baselines["counts"], backbone]),
        "calibrated": cross(rules=False),
        "by_rule": cross(rules=settings.rules),
    }
    fitted = calibration.fit_all(
        labels, backbone, found, settings.calibration, rules=settings.rules
    )
    return probabilities, fitted


def out_of_fold_table(
    rows: pd.DataFrame, predictions: pd.DataFrame, probabilities: dict[str, np.ndarray]
) -> pd.DataFrame:
    """One table with all that comparing runs row by row needs, and no text of a vote.

    Args:
        rows: id, group, fold, label and prompt.
        predictions: tokens and tokens_dropped of the rows.
        probabilities: (n, 3) by name, which become the columns NAME_a, NAME_b and NAME_tie.
    """
    table = rows[["id", "group", "fold", "label"]].assign(
        turns=rows.prompt.map(len).astype("int32"),
        script=pd.array([script(turns[0]) for turns in rows.prompt], dtype="string"),
        tokens=predictions.tokens,
        tokens_dropped=predictions.tokens_dropped,
    )
    return table.assign(**columns(probabilities))


def script(text: str, letters: int = 200) -> str:
    """The script most of a text's first letters are written in: latin, cjk, cyrillic, …; or none.

    As Unicode names its letters, the three scripts of Japanese taken together with Chinese.
    """
    found = [char for char in text[: 5 * letters] if char.isalpha()][:letters]
    names = Counter(unicodedata.name(char, "other").split()[0].lower() for char in found)
    if not names:
        return "none"
    most = names.most_common(1)[0][0]
    return "cjk" if most in ("cjk", "hiragana", "katakana") else most
