"""Tiny checkpoints of published architectures, and a try at the ways through them."""

import copy
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from bench.architectures import tiny
from bench.architectures.trial import battles, params
from stages.model.examples import tokenize
from stages.model.objective import Objective
from stages.model.passes import Compute
from stages.model.prompts import Template, answer_ids
from stages.training import way
from stages.training.fold import a_few

CPU = torch.device("cpu")


class Tried:
    """A checkpoint that went through `way.load`: its model, how it computes and its reference."""

    def __init__(
        self,
        checkpoint: Path,
        which: str = "auto",
        objective: str = "classify",
        dtype: str = "float32",
    ) -> None:
        self.params = params(objective, dtype, which)
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        template = Template(tokenizer, self.params.budget.max_tokens, self.params.prompt)
        self.few = a_few(tokenize(battles(), template))
        answers = answer_ids(tokenizer) if objective == "sft" else None
        budget = self.params.budget.token_budget
        compute = Compute(Objective(answers), CPU, getattr(torch, dtype), budget)
        loaded = way.load(checkpoint, self.few, compute, self.params.train)
        self.model, self.compute, self.expected = loaded

    @property
    def way(self) -> str:
        """The one that was taken."""
        return self.compute.way


class Checkpoints:
    """Makes each tiny checkpoint once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, model_type: str) -> Path:
        path = self.folder / model_type
        if not path.exists():
            tiny.make(model_type, path)
        return path

    def changed(self, model_type: str, change, **settings: object) -> Path:
        """A copy whose tensors `change` has changed in place, and whose config has settings."""
        path = self.folder / f"{model_type}-{len(list(self.folder.iterdir()))}"
        shutil.copytree(self(model_type), path)
        weights, config = path / "model.safetensors", path / "config.json"
        tensors = copy.copy(load_file(weights))
        change(tensors)
        save_file(tensors, weights, metadata={"format": "pt"})
        written = json.loads(config.read_text(encoding="utf-8")) | settings
        config.write_text(json.dumps(written), encoding="utf-8")
        return path
