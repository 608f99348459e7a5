"""This project's path, by the functions that the stage `train` calls, in its order."""

from dataclasses import replace

from torch import Tensor
from transformers import PreTrainedModel

from bench.throughput.lengths import Batch
from stages.params import Params
from stages.prompts import Encoded
from stages.train import memory
from stages.train.compute import accumulate, class_logits, compute_for
from stages.train.examples import Examples
from stages.train.fold import compile_if_wanted
from stages.train.model import adapt


class Project:
    """Packed rows through the compiled, adapted model, as train_fold sets it up."""

    def __init__(self, base: PreTrainedModel, params: Params, batch: Batch) -> None:
        train, compute = params.train, compute_for(params, None)
        self.model = adapt(base, train)
        few = Examples(range(3), batch.ids[:3], batch.labels[:3], Verbatim())
        self.compiled = bool(compile_if_wanted(self.model, few, compute, train.compile))
        longest = params.budget.max_tokens
        plan = memory.fit(self.model, compute, train.gradient_checkpointing, longest)
        self.compute = replace(compute, token_budget=plan.row_tokens)
        self.attention, self.memory = base.config._attn_implementation, str(plan)

    def accumulate(self, batch: Batch) -> Tensor:
        """Add the gradient of the batch's mean loss; returns that loss, detached."""
        return accumulate(
            self.model, batch.ids, batch.labels, self.compute, lambda loss: loss.backward()
        )

    def logits(self, ids: list[list[int]]) -> Tensor:
        """(examples, 3), float32, in the order given."""
        return class_logits(self.model, ids, self.compute)


class Verbatim:
    """A template for examples that are token ids already."""

    def encode(self, ids: list[int], swapped: bool) -> Encoded:
        return Encoded(ids, 0)
