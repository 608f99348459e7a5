"""This project's path, by the functions that the stage `train` calls, in its order."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from bench.throughput.lengths import Batch
from stages.config.params import Params
from stages.devices import processes
from stages.model.build import adapt
from stages.model.examples import Examples
from stages.model.packing import share
from stages.model.passes import accumulate, class_logits, compute_for
from stages.model.prompts import Round, Template
from stages.planning.measured import Verbatim
from stages.training import way
from stages.training.fast import make_fast, repeatable


class Project:
    """The adapted model as train_fold sets it up: packed rows and compiled layers, where exact."""

    settling = 2  # rounds: a row's shape is computed plainly, then recorded, and then replayed

    def __init__(self, base: PreTrainedModel, params: Params, batch: Batch) -> None:
        self.model = adapt(base, params.train)
        names, template = ["0", "1", "2"], cast(Template, Verbatim())
        rounds = cast(Sequence[Sequence[Round]], [[ids] for ids in batch.ids[:3]])
        few = Examples(
            names, rounds, np.eye(3)[batch.labels[:3]], np.ones(3), np.zeros((3, 3)), template
        )
        compute = compute_for(params, None)
        with repeatable():
            compute, expected = way.choose(self.model, few, compute, params.train)
            self.compute, plan, passed = make_fast(self.model, few, compute, params)
            passed += way.same(self.model, few, self.compute, expected)
        self.gates = [gate.name for gate in passed]
        self.attention, self.memory = base.config._attn_implementation, str(plan)

    def accumulate(self, batch: Batch) -> Tensor:
        """Add the gradient of the batch's mean loss; returns that loss, detached."""
        mine = _share(batch.ids)
        ids, targets = [batch.ids[i] for i in mine], np.eye(3)[[batch.labels[i] for i in mine]]
        shares = np.full(len(mine), 1 / len(batch.ids))
        with repeatable():  # as in training; the stock recipe's sums are not
            loss = accumulate(self.model, ids, targets, self.compute, Tensor.backward, shares)
        processes.add_up(loss, [p for p in self.model.parameters() if p.requires_grad])
        return loss

    def logits(self, ids: list[list[int]]) -> Tensor:
        """(examples, 3), float32, in the order given; of this process's share."""
        return class_logits(self.model, [ids[i] for i in _share(ids)], self.compute)


def _share(ids: list[list[int]]) -> list[int]:
    return share([len(tokens) for tokens in ids], processes.rank(), processes.count())
