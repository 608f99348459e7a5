"""What the small files of a checkpoint say, each part read when a check first asks for it."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from stages.config.errors import UserError
from stages.config.params import Params
from stages.model import stock
from stages.preflight.kinds import Kind, kind_of


@dataclass(frozen=True)
class Candidate:
    """A checkpoint whose weights need not be there.

    Attributes:
        folder: of its config.json and tokenizer.
        name: what it is called in messages.
    """

    folder: Path
    name: str
    params: Params

    @cached_property
    def raw(self) -> dict:
        """What config.json holds."""
        try:
            raw = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(
                f"{self.name}: its config.json is no JSON ({error}): download it again"
            ) from None
        if not isinstance(raw, dict) or not isinstance(raw.get("model_type"), str):
            raise UserError(
                f"{self.name}: its config.json names no model_type: expected a checkpoint in "
                "transformers' layout; take another checkpoint"
            )
        return raw

    @property
    def architecture(self) -> str | None:
        """The class that config.json names, if it does."""
        return (self.raw.get("architectures") or [None])[0]

    @cached_property
    def config(self) -> PreTrainedConfig:
        return self._load(AutoConfig)

    @property
    def text(self) -> PreTrainedConfig:
        """The configuration of its language model."""
        return self.config.get_text_config()

    @cached_property
    def kind(self) -> Kind:
        try:
            return kind_of(self.config)
        except UserError as error:
            raise UserError(f"{self.name} cannot serve: {error}") from None

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self._load(AutoTokenizer)

    @cached_property
    def model(self) -> PreTrainedModel:
        """The part that would be trained, without weights."""
        with torch.device("meta"):
            if self.kind == "encoder":
                return AutoModel.from_config(self.config)
            architecture, config = stock.language_model(self.config)
            model = architecture(config)
        return stock.text_part(model)

    def _load(self, what: type) -> Any:
        return what.from_pretrained(self.folder, trust_remote_code=False)
