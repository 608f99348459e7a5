"""The refitted model as it is exported: what it was trained with, and what its head says."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from torch import Tensor
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from stages.backbones import sources
from stages.config.errors import UserError
from stages.config.params import Params, Train, load
from stages.config.paths import OUT_OF_FOLD, PARAMS, SPLIT_METRICS, WEIGHTS
from stages.config.root import state
from stages.deployment.of_folds import some_votes
from stages.model import plain
from stages.model.build import build_plain
from stages.model.kinds import is_encoder
from stages.model.passes import Compute, compute_for
from stages.model.prompts import Template, template_for
from stages.runs.files import model_files, read_json, require, require_refit
from stages.votes.labels import LABELS


@dataclass(frozen=True)
class Source:
    """A refitted model and its base.

    Attributes:
        folder: of the refitted model.
        record: which checkpoint the base is; see models/weights.json.
        weights: the base's folder.
        classes: how many there are.
        kind, config: transformers' class for the objective, and the configuration of the text.
    """

    folder: Path
    params: Params
    record: dict[str, str]
    weights: Path
    classes: int
    tokenizer: PreTrainedTokenizerBase
    kind: type[PreTrainedModel]
    config: PreTrainedConfig

    @property
    def compute(self) -> Compute:
        """How the run computes."""
        return compute_for(self.params, self.tokenizer, self.classes)

    @property
    def template(self) -> Template:
        """How the run lays out a battle."""
        return template_for(self.tokenizer, self.params, self.classes)

    def load(self, train: Train) -> PeftModel:
        """The base, quantised as `train` says, with the adapter on it; as PEFT computes it."""
        compute = self.compute
        model = build_plain(self.weights, train, compute.device, compute.objective.outputs)
        set_peft_model_state_dict(model, load_peft_weights(str(self.folder), "cpu"))
        return model.eval()

    def texts(self, count: int) -> list[list[int]]:
        """The tokens of some of the run's votes: of each battle, or of each of its answers.

        Raises:
            UserError: the workspace has none of these votes.
        """
        own = pd.read_parquet(self.folder / OUT_OF_FOLD, columns=["id"]).id
        battles = some_votes(count, set(own))
        if battles.empty:
            raise UserError(
                f"expected votes of the run that {self.folder} was made of, to try the export on; "
                "the workspace holds those of another run: check that one out, with `dvc checkout`"
            )
        template = self.template
        return [
            text for rounds in template.tokenize(battles) for text in template.encode(rounds).texts
        ]


def read_source(folder: Path) -> Source:
    """Find all that a refitted model's export needs.

    Raises:
        UserError: it is none, or plain transformers cannot compute what it computes.
    """
    require_refit(folder)
    params = load(folder / PARAMS)
    require(folder, model_files(params, folder), "can be exported")
    if params.train.offset:
        raise UserError(
            "the run has train.offset: what length and format say is added to its logits, and "
            f"plain transformers cannot add it. Use `python -m stages.predict --model {folder}`"
        )
    record = read_json(folder / WEIGHTS)
    weights = sources.fetch(record, params.checkpoint, state())
    kind, config = plain_class(AutoConfig.from_pretrained(weights), params.train.objective)
    ties = read_json(folder / SPLIT_METRICS)["share"]["tie"]
    classes = len(LABELS) if ties else len(LABELS) - 1
    tokenizer = AutoTokenizer.from_pretrained(weights)
    return Source(folder, params, record, weights, classes, tokenizer, kind, config)


def plain_class(
    config: PreTrainedConfig, objective: str
) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    """Transformers' own class that computes what an objective's model does.

    Raises:
        UserError: there is none.
    """
    text = config.get_text_config()
    if objective == "sft":
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(text)], text
    if type(text) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or is_encoder(text):
        why = (
            "transformers' class for it reads an encoder through layers that the run's head has not"
            if is_encoder(text)
            else "transformers has no class for classification with it"
        )
        raise UserError(
            f"a {text.model_type} with {objective} cannot be exported: {why}. Use `python -m "
            "stages.predict --model models/refit`, or train with train.objective sft"
        )
    return MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(text)], text


@torch.no_grad()
def outputs(model: PeftModel, texts: list[list[int]], answers: list[int] | None) -> Tensor:
    """What a model's head says of each text, computed alone: (texts, outputs), float32.

    Args:
        answers: the vocabulary's ids that are read, with `sft`; else all outputs are.
    """
    device = next(model.parameters()).device
    batches = [plain.batches([text], 1)[0].to(device) for text in texts]
    found = torch.cat([plain.logits(model, batch) for batch in batches]).float().cpu()
    return found if answers is None else found[:, answers]
