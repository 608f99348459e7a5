"""Scores of single answers by a finished run.

    from stages.reward.scorer import load_scorer

    scorer = load_scorer()  # the workspace's run; or experiment="…", or model="models:/…"
    scorer.score("What is 2 + 2?", "4")
    scorer.score([{"role": "user", "content": "What is 2 + 2?"}], "4", references=["It is 5."])

A score is one of two numbers, and never both in one call:

- Without references, the reward: the mean over the folds of the logit that the answer wins. Only a
  run with train.objective `reward` has it. It has no unit and no zero. Differences between two
  answers to one conversation have a meaning: score(a) - score(b) is the mean over the folds of
  ln(P(a wins) / P(b wins)), before calibration, whatever share ties have (Davidson 1970). Without
  ties, a wins with 1 / (1 + exp(-difference)) (Bradley and Terry 1952). A difference of 0.7 says
  that a wins twice as often as b. Scores of two conversations, or of two runs, say nothing of each
  other.
- With references, the win rate: P(win) + P(tie) / 2 against a reference, the mean of both orders of
  the two answers, of the folds and of the references; before calibration. Every run has it.
"""

from collections.abc import Sequence
from itertools import repeat

import numpy as np
import pandas as pd

from stages.config.errors import UserError
from stages.reward.answers import Answer, Talk, answer_of
from stages.runs.blended import Model, load_model
from stages.runs.ensemble import Ensemble
from stages.runs.model_folder import model_folder
from stages.votes.rows import TURNS, BadRow


def load_scorer(experiment: str | None = None, model: str | None = None) -> "Scorer":
    """The scorer of a run; called in the repository's root.

    Args:
        experiment: a DVC experiment, branch, tag or commit; None is the workspace.
        model: a model in MLflow, as runs:/ID/model or models:/NAME@ALIAS, or a blend's folder.

    Raises:
        UserError: there is none of that name, it cannot be fetched, or has not ended.
    """
    with model_folder(experiment, model) as folder:
        return Scorer(load_model(folder))


class Scorer:
    """Scores answers by a run's model, which several threads may share."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def score(
        self, conversation: Talk, answer: Talk, references: str | list[str] | None = None
    ) -> float:
        """The score of an answer; see the top of this module for what it means.

        Args:
            conversation: what the user says; that turn by turn, as a list of texts; or messages of
                {role, content}, which end with the user's.
            answer: a text; an answer to each turn, as a list of texts; or messages.
            references: another answer to the last turn, or several.

        Raises:
            BadRow: a value cannot be read; it is a ValueError.
            UserError: the run needs references, and there are none.
        """
        compared = None if references is None else [references]
        return self.scores([conversation], [answer], compared)[0]

    def scores(
        self,
        conversations: Sequence[Talk],
        answers: Sequence[Talk],
        references: Sequence[str | list[str] | None] | None = None,
    ) -> list[float]:
        """The scores of many answers at once, each with its conversation and its references.

        Raises:
            BadRow: their numbers differ, or one cannot be read, with its place from 1.
            UserError: the run needs references, and there are none.
        """
        given = {"conversations": conversations, "answers": answers, "references": references}
        counts = {name: len(each) for name, each in given.items() if each is not None}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise BadRow(f"expected as many of each, found {told}")
        self.check(compared=references is not None)
        every = zip(conversations, answers, references or repeat(None), strict=False)
        read = [_read(place, *each) for place, each in enumerate(every, start=1)]
        for place, answer in enumerate(read, start=1):
            if references is not None and not answer.references:
                raise BadRow(f"answer {place}: its reference is missing")
        return self.rate(read, compared=references is not None).tolist()

    @property
    def alone(self) -> bool:
        """Whether a single answer has a score, without references."""
        return isinstance(self.model, Ensemble) and self.model.alone

    def check(self, compared: bool) -> None:
        """Raise a UserError if the run gives no such score.

        Args:
            compared: whether there are references.
        """
        if not compared:
            _alone(self.model)

    def rate(self, answers: Sequence[Answer], compared: bool) -> np.ndarray:
        """Scores (n,) of answers.

        Args:
            compared: whether to compare them with their references, of which each has some.
        """
        if not answers:
            return np.empty(0)
        return self._win_rates(answers) if compared else self._rewards(answers)

    def tokens(self, answers: Sequence[Answer], compared: bool) -> np.ndarray:
        """Tokens (n,) that `rate` reads of each answer, by all folds; see there."""
        if not answers:
            return np.empty(0, dtype=int)
        if not compared:
            return _alone(self.model).reward_tokens(_singles(answers))
        battles = _battles(answers)
        counted = pd.Series(self.model.tokens(battles))
        return counted.groupby(battles.place).sum().to_numpy()

    def passes(self, compared: bool) -> str:
        """How often `rate` reads an answer, in words."""
        return self.model.passes if compared else f"{len(self.model)} folds"

    def _rewards(self, answers: Sequence[Answer]) -> np.ndarray:
        return self.rewards(_singles(answers))

    def rewards(self, answers: pd.DataFrame) -> np.ndarray:
        """Rewards (n,) of a frame of answers; see Ensemble.rewards for its columns.

        Raises:
            UserError: a single answer has none under this run.
        """
        found = _alone(self.model).rewards(answers)[:, :, 0]
        return found.mean(axis=0, dtype=np.float64)

    def _win_rates(self, answers: Sequence[Answer]) -> np.ndarray:
        battles = _battles(answers)
        return pd.Series(self.win_rates(battles)).groupby(battles.place).mean().to_numpy()

    def win_rates(self, battles: pd.DataFrame) -> np.ndarray:
        """Win rates (n,) of answer A in battles; see Ensemble.logits for their columns."""
        wins, _, ties = self.model.predict(battles).averaged.T
        return wins + ties / 2


def _singles(answers: Sequence[Answer]) -> pd.DataFrame:
    texts = [(a.system, a.prompt, a.response) for a in answers]
    return pd.DataFrame(texts, columns=["system", "prompt", "response"])


def _battles(answers: Sequence[Answer]) -> pd.DataFrame:
    """A row for each reference; `place` is that of the answer."""
    battles = [
        (place, a.system, a.prompt, a.response, [*a.response[:-1], reference])
        for place, a in enumerate(answers)
        for reference in a.references
    ]
    return pd.DataFrame(battles, columns=["place", "system", *TURNS])


def _read(
    place: int, conversation: Talk, answer: Talk, references: str | list[str] | None
) -> Answer:
    try:
        return answer_of(conversation, answer, references)
    except BadRow as error:
        raise BadRow(f"answer {place}: {error}") from None


def _alone(model: Model) -> Ensemble:
    """The model, if a single answer has a reward under it; raises a UserError if not."""
    if isinstance(model, Ensemble) and model.alone:
        return model
    if not isinstance(model, Ensemble):
        why = "a blend, whose members' rewards have no common unit"
    elif model.objective == "reward":
        why = "train.offset, which compares two answers"
    else:
        why = f"train.objective {model.objective}, which compares two answers"
    raise UserError(
        f"a single answer has no score under {why}: expected references to compare each answer "
        "with (a column `reference` or `references`, the field `references`, or references=… in "
        "Python), found none. A run with -S train.objective=reward needs none"
    )
