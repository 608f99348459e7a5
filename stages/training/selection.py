"""The best epoch: found by an inner split of a fold's training votes, which is not trained on.

What the fold holds out plays no part: an epoch that was chosen by it would flatter its log loss.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.torch import load_file, save_file
from torch import nn

from stages.config.errors import UserError
from stages.config.params import Params
from stages.devices import processes
from stages.model.examples import Examples
from stages.training.checkpoints import writing
from stages.training.soft_targets import votes_alone


def split(training: pd.DataFrame, params: Params) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Hold back some of a fold's own votes, where the best epoch is wanted and there are several.

    Whole prompt groups are drawn by the training's seed. What is only trained on and shares one of
    them is left out.

    Args:
        training: group, fold, targets and votes of what the fold is trained on.

    Returns:
        What is left to train on; and the votes held back, without what a teacher says.

    Raises:
        UserError: no group is small enough to be held back, or nothing is left.
    """
    train, epochs = params.train, params.budget.epochs
    if train.select == "last" or epochs == 1:
        if train.select == "best":
            print("train.select is best and there is one epoch, the last: all votes are trained on")
        return training, None
    own = training[training.fold >= 0]
    drawn = _drawn(own.group, train.inner * len(own), train.seed)
    inner = training.group.isin(drawn)
    held_back, rest = own[own.group.isin(drawn)], training[~inner]
    if held_back.empty or not (rest.fold >= 0).any():
        what = "none" if held_back.empty else "all"
        raise UserError(
            f"train.select is best: expected {train.inner:.0%} of {len(own)} training votes, in "
            f"{own.group.nunique()} prompt groups, to be held back for choosing the epoch, found "
            f"{what}: set train.inner to another share, take more rows, or set train.select to last"
        )
    print(f"{len(held_back)} of {len(own)} training votes are held back to choose the epoch")
    return rest, votes_alone(held_back)


def _drawn(groups: pd.Series, rows: float, seed: int) -> set[str]:
    """Whole groups in random order, as they fit in the number of rows."""
    sizes = groups.value_counts().sort_index()
    drawn, left = set[str](), rows
    for place in np.random.default_rng(seed).permutation(len(sizes)):
        if sizes.iloc[place] <= left:
            drawn.add(sizes.index[place])
            left -= sizes.iloc[place]
    return drawn


class Selection:
    """The inner votes, and the adapters that were the best so far; of all epochs if need be.

    Args:
        inner: the votes held back.
        folder: of the training's checkpoints, which a training that goes on finds again.
    """

    def __init__(self, inner: Examples, folder: Path) -> None:
        self.inner, self._folder = inner, folder

    def keep(self, step: int, model: nn.Module) -> None:
        """Keep what is trained as it is after a step; the first of several processes writes.

        Raises:
            UserError: it cannot be written.
        """
        if processes.rank():
            return
        whole, partial = self._file(step), self._file(step).with_suffix(".partial")
        with writing(f"the adapter of step {step}", self._folder):
            save_file({name: p.detach().cpu() for name, p in _trained(model).items()}, partial)
            partial.replace(whole)

    def restore(self, step: int, model: nn.Module) -> None:
        """Give the model back what was kept, in place: recorded passes read it where it is."""
        parameters = _trained(model)
        if processes.rank() == 0:
            for name, value in load_file(self._file(step)).items():
                parameters[name].data.copy_(value)
        processes.broadcast(list(parameters.values()))

    def _file(self, step: int) -> Path:
        return self._folder / f"best-{step}.safetensors"


def inner_losses(history: Sequence[dict]) -> dict[int, float]:
    """The inner losses in a training's log, by step: of both orders' mean probabilities."""
    return {entry["step"]: entry["inner_loss"] for entry in history if "inner_loss" in entry}


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
