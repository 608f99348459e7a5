"""A sound tiny run, for a test to break in one place."""

from collections.abc import Callable

import torch
from transformers import AutoTokenizer

from stages.config.params import Train
from stages.model import packed
from stages.model.build import build_plain
from stages.model.examples import tokenize
from stages.model.objective import Objective
from stages.model.passes import Compute
from stages.model.prompts import Template
from stages.training import way
from stages.training.fold import a_few
from stages.training.gates import order
from stages.training.gates.gate import Gate, GateFailed
from stages.training.gates.reference import reference
from stages.votes.labels import targets_of

CPU = torch.device("cpu")


class Setting:
    """A sound tiny run, for a test to break in one place."""

    def __init__(self, checkpoint, battles, params):
        self.params = params
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        template = Template(tokenizer, params.budget.max_tokens, params.prompt)
        self.examples = a_few(tokenize(battles, template))
        self.held_out = self.examples.subset([])
        self.truth = dict(zip(battles.id, targets_of(battles), strict=True))
        self.checkpoint = checkpoint
        self.compute = Compute(Objective(), CPU, torch.float32, params.budget.token_budget)
        self.load(params.train)

    def load(self, train: Train) -> None:
        """Load the model, take its reference, and let it go the fast way."""
        self.model = build_plain(self.checkpoint, train, CPU)
        self.expected = reference(self.model, self.examples, self.compute)
        packed.put_on(self.model, train, self.compute.dtype)

    @property
    def base(self):
        return self.model.get_base_model()

    def phases(self) -> list[Callable[[], list[Gate]]]:
        """The gates before the first step, by the time at which train_fold runs them."""
        few, quantised = self.examples, self.params.quantised
        return [
            lambda: order.before_loading(few, self.held_out, self.truth),
            lambda: way.same(self.model, few, self.compute, self.expected),
            lambda: order.before_training(self.model, few, self.compute, quantised),
        ]

    def check(self) -> list[Gate]:
        """Run the gates as train_fold does, which stops at the first phase that fails."""
        return [gate for phase in self.phases() for gate in phase()]

    def failed(self) -> set[str]:
        """The names of the gates that fail, of every phase."""
        names = set()
        for phase in self.phases():
            try:
                phase()
            except GateFailed as error:
                assert all(gate.name in str(error) for gate in error.gates)
                names |= {gate.name for gate in error.gates}
        return names
