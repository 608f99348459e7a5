"""The recipe people use: PEFT's preparation, padded batches, gradient checkpointing, autocast."""

import warnings
from collections.abc import Sequence

import torch
from peft import LoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, PreTrainedModel
from transformers.utils import ModelOutput

from bench.throughput.lengths import Batch
from bench.throughput.published import PAD
from stages.config.params import Params
from stages.model.attention import soft_capped
from stages.model.passes import compute_for
from stages.model.stock import backbone

PADDED = 4  # examples of a padded batch


class Stock:
    """transformers, PEFT and bitsandbytes as their documentation puts them together.

    Batches are padded to their longest example. Training takes them in random order, as the Trainer
    does; inference takes them by length. Attention is the library's default where that is right:
    SDPA, but eager where SDPA leaves something out (Gemma 2) or is not supported (gpt-oss).

    Attributes:
        settling: rounds that do not count.
    """

    settling = 0

    def __init__(self, base: PreTrainedModel, params: Params, _: Batch) -> None:
        compute = compute_for(params, None)
        self.dtype, self.device = compute.dtype, compute.device
        self.attention = "sdpa" if base._supports_sdpa and not soft_capped(base.config) else "eager"
        base = classifier(base)
        base.set_attn_implementation(self.attention)
        for kind in (FutureWarning, UserWarning):  # the recipe's own calls are deprecated
            warnings.filterwarnings("ignore", category=kind, module="transformers|torch|peft")
        base = prepare_model_for_kbit_training(base)
        lora = params.train.lora
        self.model = get_peft_model(
            base,
            LoraConfig(
                task_type=TaskType.SEQ_CLS,
                r=lora.r,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=lora.targets,
            ),
        )
        self.gates: list[str] = []
        self.padded = PADDED
        self.memory = "every layer recomputed"

    def accumulate(self, batch: Batch) -> Tensor:
        """Add the gradient of the batch's mean loss; returns that loss, detached."""
        total = torch.zeros((), device=self.device)
        for index in _chunks(range(len(batch.ids)), self.padded):
            labels = torch.tensor([batch.labels[i] for i in index], device=self.device)
            loss = self._forward([batch.ids[i] for i in index], labels).loss
            loss = loss * (len(index) / len(batch.ids))
            loss.backward()
            total += loss.detach()
        return total

    @torch.no_grad()
    def logits(self, ids: list[list[int]]) -> Tensor:
        """(examples, 3), float32, in the order given."""
        out = torch.empty(len(ids), 3)
        for index in _chunks(_by_length(ids), self.padded):
            out[index] = self._forward([ids[i] for i in index]).logits.float().cpu()
        return out

    def _forward(self, ids: list[list[int]], labels: Tensor | None = None) -> ModelOutput:
        tokens = pad_sequence([torch.tensor(each) for each in ids], True, PAD).to(self.device)
        half = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=half):
            return self.model(input_ids=tokens, attention_mask=tokens.ne(PAD).long(), labels=labels)


def classifier(base: PreTrainedModel) -> PreTrainedModel:
    """transformers' own classifier of three classes on a language model's layers."""
    with torch.device("meta"):
        model = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(base.config)](base.config)
    layers = backbone(base)
    setattr(model, model.base_model_prefix, layers)
    weight = next(layers.parameters())
    model.score = torch.nn.Linear(
        base.get_output_embeddings().in_features, 3, bias=False, device=weight.device
    ).to(layers.dtype)
    torch.nn.init.zeros_(model.score.weight)
    model.is_loaded_in_4bit = getattr(base, "is_loaded_in_4bit", False)
    return model


def padded_share(batches: Sequence[Batch], by_length: bool) -> float:
    """The share of padding in what this recipe computes, of all examples by length or in order."""
    groups = (
        [[ids for batch in batches for ids in batch.ids]]
        if by_length
        else [batch.ids for batch in batches]
    )
    computed = 0
    for ids in groups:
        order = _by_length(ids) if by_length else range(len(ids))
        computed += sum(
            len(index) * max(len(ids[i]) for i in index) for index in _chunks(order, PADDED)
        )
    return 1 - sum(batch.tokens for batch in batches) / computed


def _by_length(ids: list[list[int]]) -> list[int]:
    return sorted(range(len(ids)), key=lambda i: len(ids[i]))


def _chunks(index: list[int] | range, size: int) -> list[list[int]]:
    return [list(index[i : i + size]) for i in range(0, len(index), size)]
