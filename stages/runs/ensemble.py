"""A finished run as one model: its quantised base, and every fold's adapter on it in turn.

A refitted model is the same with one adapter.
"""

import os
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

# Before PyTorch starts its threads: waiting ones would spin on cores that others need.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
import transformers
from peft import load_peft_weights, set_peft_model_state_dict
from transformers import AutoTokenizer

from stages.backbones import sources
from stages.config.params import Params, load
from stages.config.paths import CALIBRATION, OFFSET_FILE, PARAMS, SPLIT_METRICS, WEIGHTS, adapter
from stages.config.root import state
from stages.counting import offset
from stages.counting.features import count_features
from stages.model.examples import tokenize
from stages.model.objective import Objective
from stages.model.passes import Compute, class_logits, compute_for
from stages.model.prompts import Encoded, template_for
from stages.runs.files import adapters_in, model_files, read_json, require
from stages.runs.lock import check_params, read_lock
from stages.scoring import calibration
from stages.training import way
from stages.votes.labels import LABELS, MIRRORED, TARGETS, from_logits
from stages.votes.rows import TURNS

# Battles that show which way through the backbone is exact, as real ones do for a training.
TRIED = [
    ("made up 1", ["What is 2 + 2?"], ["4"], ["It is five, I think."]),
    (
        "made up 2",
        ["Name a river.", "And one in Asia?"],
        ["The Rhine.", "The Mekong."],
        ["", "Sorry"],
    ),
    ("made up 3", ["Say hello in French."], ["Hello is hello in every language."], ["Bonjour !"]),
]


@dataclass(frozen=True)
class Prediction:
    """Probabilities (n, 3) that A is chosen, B is chosen, or neither; 0 for that without ties.

    Attributes:
        ab, ba: mean over the folds with the answers as given, and exchanged and mapped back.
        averaged: mean of both, which is what is scored out of fold.
        final: that, calibrated.
        dropped: (n,) tokens of each battle that did not fit.
    """

    ab: np.ndarray
    ba: np.ndarray
    averaged: np.ndarray
    final: np.ndarray
    dropped: np.ndarray


class Ensemble:
    """The models of the folds of one run, or its refitted one; several threads may share it.

    Args:
        folder: laid out as the repository, with a run's params.yaml, models/, calibration and
            metrics of the split; those of the workspace, or copies. Or a refitted model's.
        folds: whose models are taken; None takes all there are.

    Attributes:
        data: how the training votes were read.
        prior: (3,) the training votes' class shares; those of ties are 0 if there are none.
        classes: how many classes there are: 3, or 2 without ties.
        checkpoint: the backbone's name.
        objective: train.objective of the run.
        alone: whether a single answer has a reward: `reward` without an offset, which compares two.

    Raises:
        UserError: a file is missing, the weights cannot be fetched, or the adapters belong to
            other params.
    """

    def __init__(self, folder: Path, folds: Sequence[int] | None = None) -> None:
        params = require_run(folder)
        record = read_json(folder / WEIGHTS)
        self.checkpoint, self.data = record["checkpoint"], params.data
        self.objective = params.train.objective
        self.alone = self.objective == "reward" and not params.train.offset
        shares = read_json(folder / SPLIT_METRICS)["share"]
        self.prior = np.array([shares[label] for label in LABELS])
        self.classes = len(LABELS) if shares["tie"] else len(LABELS) - 1
        self.calibration = read_json(folder / CALIBRATION)

        quiet_libraries()
        weights = sources.fetch(record, params.checkpoint, state())
        tokenizer = AutoTokenizer.from_pretrained(weights)
        self._template = template_for(tokenizer, params, self.classes)
        tried = tokenize(made_up(self.classes), self._template)
        compute = compute_for(params, tokenizer, self.classes)
        self._model, self._compute, _ = way.load(weights, tried, compute, params.train)
        self._model.eval()
        found = adapters_in(folder, params) if folds is None else map(adapter, folds)
        places = [folder / place for place in found]
        self._adapters = [load_peft_weights(str(place), "cpu") for place in places]
        offsets = places if params.train.offset else []
        self._offsets = [offset.load(place / OFFSET_FILE) for place in offsets]
        self._lock = threading.Lock()
        self._wear(self._adapters[0])

    def __len__(self) -> int:
        return len(self._adapters)

    def logits(self, battles: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Logits of every fold's model in both orders.

        Args:
            battles: prompt, response_a and response_b, each row a list of turns; system, if known.

        Returns:
            (folds, 2, n, classes) logits: the answers as given, then exchanged and mapped back; and
            the (n,) tokens of each battle that did not fit.
        """
        orders = self._encoded(battles)
        ids = [text for order in orders for battle in order for text in battle.texts]
        with self._lock:  # the adapters take turns on one base
            found = np.stack(
                [self._class_logits(adapter, ids, self._compute) for adapter in self._adapters]
            )
        found = found.reshape(len(self._adapters), len(orders), len(battles), self.classes)
        if len(orders) == 1:  # exchanging the answers exchanges the logits
            found = found.repeat(2, axis=1)
        else:
            found[:, 1] = found[:, 1][..., list(MIRRORED[: self.classes])]
        if self._offsets:
            features = count_features(battles)
            found += np.stack([fitted.of(features) for fitted in self._offsets])[:, None]
        return found, np.array([battle.dropped for battle in orders[0]], dtype=int)

    def tokens(self, battles: pd.DataFrame) -> np.ndarray:
        """Tokens (n,) that `logits` reads of each battle, by all folds and in all orders."""
        lengths = [[len(battle) for battle in order] for order in self._encoded(battles)]
        return len(self) * np.sum(lengths, axis=0)

    @property
    def passes(self) -> str:
        """How often `logits` reads a battle, in words."""
        orders = "both orders in one pass" if self._compute.objective.alone else "both orders"
        return f"{len(self)} folds, {orders}"

    def _encoded(self, battles: pd.DataFrame) -> list[list[Encoded]]:
        """The battles in each order that is read."""
        rounds = self._template.tokenize(battles)
        orders = (False,) if self._compute.objective.alone else (False, True)
        return [[self._template.encode(r, swapped) for r in rounds] for swapped in orders]

    def rewards(self, answers: pd.DataFrame) -> np.ndarray:
        """What every fold's model says of answers, each read by itself; only if it is `alone`.

        Args:
            answers: prompt and response, each row a list of turns; system, if known.

        Returns:
            (folds, n, outputs): the reward, which is the logit that the answer wins; and, if there
            are ties, what it adds to the logit of a tie. See stages.model.objective.Objective.
        """
        ids = self._answer_ids(answers)
        # Texts that are no pairs: each has the head's outputs as its logits.
        single = replace(
            self._compute, objective=Objective(classes=self._compute.objective.outputs)
        )
        with self._lock:
            return np.stack(
                [self._class_logits(adapter, ids, single) for adapter in self._adapters]
            )

    def reward_tokens(self, answers: pd.DataFrame) -> np.ndarray:
        """Tokens (n,) that `rewards` reads of each answer, by all folds."""
        return len(self) * np.array([len(ids) for ids in self._answer_ids(answers)])

    def _answer_ids(self, answers: pd.DataFrame) -> list[list[int]]:
        twice = answers.assign(response_a=answers.response, response_b=answers.response)
        return [self._template.encode(rounds).ids for rounds in self._template.tokenize(twice)]

    def _class_logits(
        self, adapter: dict[str, torch.Tensor], ids: Sequence[Sequence[int]], compute: Compute
    ) -> np.ndarray:
        self._wear(adapter)
        return class_logits(self._model, ids, compute).numpy()

    def _wear(self, adapter: dict[str, torch.Tensor]) -> None:
        """Put one fold's adapter and head on the base, in the float32 in which they were saved."""
        set_peft_model_state_dict(self._model, adapter)

    def predict(self, battles: pd.DataFrame) -> Prediction:
        """Predict battles; see `logits` for their columns."""
        logits, dropped = self.logits(battles)
        flat = from_logits(logits.reshape(-1, self.classes))
        ab, ba = flat.reshape(logits.shape).mean(axis=0)
        averaged = (ab + ba) / 2
        final = calibration.apply(averaged, self.calibration, calibration.kinds(battles))
        return Prediction(
            with_ties(ab), with_ties(ba), with_ties(averaged), with_ties(final), dropped
        )


def require_run(folder: Path) -> Params:
    """The params of a run that can predict; raises a UserError if it cannot, see Ensemble."""
    params = load(folder / PARAMS)
    if lock := read_lock(folder):  # a model in MLflow has none: it was checked when recorded
        check_params(folder, lock)
    require(folder, model_files(params, folder), "can predict")
    return params


def made_up(classes: int) -> pd.DataFrame:
    """A few battles that are no votes, for what needs some: their targets say nothing."""
    battles = pd.DataFrame(TRIED, columns=["id", *TURNS])
    return battles.assign(**dict.fromkeys(TARGETS[:classes], 1 / classes), weight=1.0)


def with_ties(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes) as (n, 3): where votes know no ties, these have none."""
    return np.pad(probabilities, ((0, 0), (0, len(LABELS) - probabilities.shape[1])))


def quiet_libraries() -> None:
    """Their reports on loading are for training, and so is a bar for each file."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
