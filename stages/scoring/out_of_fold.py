"""Every out-of-fold prediction of a run, by name, and the table in which other runs meet it."""

import unicodedata
from collections import Counter
from functools import cache, partial
from itertools import islice

import numpy as np
import pandas as pd

from stages.config.params import Evaluate
from stages.scoring import calibration
from stages.scoring.learning import mean_of_logs, pooled
from stages.scoring.predictions import columns
from stages.votes.labels import votes_of
from stages.votes.prepared import VOTE

# How the names of the letters begin that stand beside Chinese ones in Japanese.
JAPANESE = ("hiragana", "katakana", "katakana-hiragana", "ideographic")


def all_probabilities(
    battles: pd.DataFrame,
    ab: np.ndarray,
    ba: np.ndarray,
    baselines: dict[str, np.ndarray],
    settings: Evaluate,
    averaged: np.ndarray | None = None,
) -> tuple[dict[str, np.ndarray], dict]:
    """Every out-of-fold prediction of the battles that is scored, by name.

    Args:
        battles: their votes, fold, group and answers; all others are in the same order.
        ab, ba: (n, C) probabilities of the backbone in both orders.
        baselines: the same of each baseline, by name.
        averaged: the same of the backbone in no order; the mean of both if None.

    Returns:
        The baselines', `ab`, `ba`, the averaged `backbone`, `features` and `with_features` (the
        `counts` baseline alone and with the backbone, as `pooled` has them, if it has),
        `pooled` (with a baseline, if the settings name one), `calibrated`, and `by_rule`
        (calibration and rules); and the calibration of all rows, for new battles.
    """
    votes, folds = votes_of(battles), battles.fold.to_numpy()
    backbone = (ab + ba) / 2 if averaged is None else averaged
    found = calibration.kinds(battles)
    cross = partial(calibration.out_of_fold, votes, backbone, found, folds, settings.calibration)
    pool = partial(pooled, votes=votes, folds=folds, groups=battles.group.to_numpy())
    probabilities = {
        **baselines,
        "ab": ab,
        "ba": ba,
        "backbone": backbone,
        **_pooled(pool([baselines["counts"]]), pool([baselines["counts"], backbone])),
        **_with_baseline(backbone, baselines, settings.pool),
        "calibrated": cross(rules=False),
        "by_rule": cross(rules=settings.rules),
    }
    fitted = calibration.fit_all(votes, backbone, found, settings.calibration, rules=settings.rules)
    return probabilities, fitted


def _with_baseline(
    backbone: np.ndarray, baselines: dict[str, np.ndarray], name: str
) -> dict[str, np.ndarray]:
    return {} if name == "none" else {"pooled": mean_of_logs([backbone, baselines[name]])}


def _pooled(alone: np.ndarray | None, together: np.ndarray | None) -> dict[str, np.ndarray]:
    if alone is None or together is None:
        return {}
    return {"features": alone, "with_features": together}


def out_of_fold_table(
    rows: pd.DataFrame, predictions: pd.DataFrame, probabilities: dict[str, np.ndarray]
) -> pd.DataFrame:
    """One table with all that comparing runs row by row needs, and no text of a vote.

    Args:
        rows: id, group, fold, the vote, source, language and prompt.
        predictions: tokens and tokens_dropped of the rows.
        probabilities: (n, C) by name, which become the columns NAME_a, NAME_b and NAME_tie.
    """
    kept = ("id", "group", "fold", "source", "language", *VOTE)
    table = rows[[name for name in kept if name in rows]].assign(
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
    start = unicodedata.normalize("NFKC", text[: 5 * letters])  # full-width letters are Latin too
    names = Counter(map(_written_in, islice(filter(str.isalpha, start), letters)))
    if not names:
        return "none"
    most = names.most_common(1)[0][0]
    return "cjk" if most in JAPANESE else most


@cache
def _written_in(letter: str) -> str:
    return unicodedata.name(letter, "other").split()[0].lower()
