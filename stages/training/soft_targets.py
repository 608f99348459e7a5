"""What a teacher says, mixed into the targets of votes, and as the targets of pairs without votes.

Source: Hinton et al. 2015, Distilling the knowledge in a neural network.
"""

import numpy as np
import pandas as pd
from scipy.special import softmax

from stages.config.errors import UserError
from stages.config.teacher import Teacher
from stages.votes.labels import LABELS, TARGETS, floored, targets_of

SAYS = tuple(f"teacher_{label}" for label in LABELS)  # columns of lessons
LESSON = ("id", "group", "source", "weight", "prompt", "response_a", "response_b", "system", *SAYS)
VOTES = tuple(f"vote_{label}" for label in LABELS)  # what the votes said; missing for pairs


def taught(
    training: pd.DataFrame, held_out: pd.DataFrame, lessons: pd.DataFrame, teacher: Teacher
) -> pd.DataFrame:
    """The training battles with a teacher's part in their targets, and its pairs without votes.

    A target is (1 - weight) * vote + weight * softmax(log p / temperature), and a pair's is the
    latter alone. Votes of which the teacher says nothing keep theirs.

    Args:
        training, held_out: as stages.training.beside.parts has them.
        lessons: LESSON of what the teacher says; the turns are missing where the id is a vote's.

    Returns:
        The battles, which also keep their votes in VOTES, and behind them the pairs, which are only
        trained on: fold -1.

    Raises:
        UserError: a lesson is on a held-out vote.
    """
    if seen := sorted(set(lessons.id) & set(held_out.id)):
        raise UserError(
            f"expected no lesson on a held-out vote, found {len(seen)}, such as {seen[0]}: run "
            "`dvc repro`, which makes data/teacher anew"
        )
    names = [name for name in TARGETS if name in training]
    says = pd.DataFrame(
        _softened(lessons, len(names), teacher.temperature), lessons.index, columns=names
    )
    of_pairs = lessons.prompt.notna()
    print(
        f"{(~of_pairs).sum()} of {len(training)} votes are mixed with what a teacher says, and "
        f"{of_pairs.sum()} pairs without votes are trained on"
    )
    votes = _mixed(training, says[~of_pairs].set_index(lessons.id[~of_pairs]), teacher.weight)
    pairs = lessons[of_pairs].join(says).assign(fold=-1, training_only=True)
    return pd.concat([votes, pairs.reindex(columns=votes.columns)], ignore_index=True)


def votes_alone(battles: pd.DataFrame) -> pd.DataFrame:
    """Battles that have votes, with these alone as their targets."""
    if VOTES[0] not in battles:
        return battles
    own = dict(zip(TARGETS, VOTES, strict=True))
    return battles.assign(**{name: battles[own[name]] for name in TARGETS if name in battles})


def without_vote(battles: pd.DataFrame) -> pd.Series:
    """Which battles have no vote: a mask."""
    if VOTES[0] not in battles:
        return pd.Series(False, battles.index)
    return battles[VOTES[0]].isna()


def _softened(lessons: pd.DataFrame, classes: int, temperature: float) -> np.ndarray:
    """The teacher's probabilities at a temperature, (n, classes); a tie that is none is halved."""
    says = floored(lessons[list(SAYS)].to_numpy(dtype=np.float64))
    if classes < len(LABELS):
        says = says[:, :2] + says[:, 2:] / 2
    return softmax(np.log(says) / temperature, axis=1)


def _mixed(training: pd.DataFrame, says: pd.DataFrame, weight: float) -> pd.DataFrame:
    votes = targets_of(training)
    teacher = says.reindex(training.id).to_numpy()
    mixed = np.where(np.isnan(teacher), votes, (1 - weight) * votes + weight * teacher)
    return training.assign(
        **dict(zip(says.columns, mixed.T, strict=True)),
        **dict(zip(VOTES, votes.T, strict=False)),
    )
