"""Whether a checkpoint is an encoder, which reads a text both ways, or a decoder."""

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)


def is_encoder(config: PreTrainedConfig) -> bool:
    """Whether a checkpoint reads text both ways, to classify it, and writes none."""
    kind = type(config)
    writes = kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING
    writes = writes or kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING and not writes


def reads_both_ways(base: PreTrainedModel) -> bool:
    """Whether a model that has been loaded is an encoder: its first token is read, not its last."""
    return is_encoder(base.config)
