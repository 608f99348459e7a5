"""A sound tiny run, for a test to break in one place."""

import torch
from transformers import AutoTokenizer

from stages.model.build import build
from stages.model.examples import tokenize
from stages.model.objective import Objective
from stages.model.passes import Compute
from stages.model.prompts import Template
from stages.training.fold import a_few
from stages.training.gates import order
from stages.training.gates.gate import Gate, GateFailed

CPU = torch.device("cpu")


class Setting:
    """A sound tiny run, for a test to break in one place."""

    def __init__(self, checkpoint, battles, params):
        self.params = params
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        template = Template(tokenizer, params.budget.max_tokens, params.prompt)
        self.examples = a_few(tokenize(battles, template))
        self.held_out = self.examples.subset([])
        self.truth = dict(zip(battles.id, battles.label, strict=True))
        self.checkpoint = checkpoint
        self.compute = Compute(Objective(), CPU, torch.float32, params.budget.token_budget)
        self.model = build(checkpoint, params.train, CPU)

    @property
    def base(self):
        return self.model.get_base_model()

    def check(self) -> list[Gate]:
        """Run the gates before the first step, in the order of train_fold."""
        passed = order.before_loading(self.examples, self.held_out, self.truth)
        return passed + order.before_training(self.model, self.examples, self.compute)

    def failed(self) -> set[str]:
        """The names of the gates that fail."""
        try:
            self.check()
        except GateFailed as error:
            assert all(gate.name in str(error) for gate in error.gates)
            return {gate.name for gate in error.gates}
        return set()
