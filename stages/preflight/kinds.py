"""What kind of model a configuration describes, as far as a backbone is concerned."""

from typing import Literal

from transformers import PreTrainedConfig
from transformers.models.auto import modeling_auto as auto

from stages.config.errors import UserError

Kind = Literal["decoder", "multimodal", "encoder"]

# Language models, to transformers, that read every token in the light of the whole text.
BOTH_WAYS = {"bert-generation", "xlnet"}
# Language models, to transformers, of something else than text, or that do not write left to right.
OTHER = {
    "diffusion_gemma": "a model that writes by diffusion",
    "esm": "a model of proteins",
    "esmc": "a model of proteins",
    "evolla": "a model of proteins",
    "gemma4_assistant": "a model that drafts for another",
    "gemma4_unified_assistant": "a model that drafts for another",
    "moshi": "a model of speech",
    "moss_transcribe_diarize": "a model of speech",
    "musicgen": "a model of music",
    "musicgen_melody": "a model of music",
    "perceiver": "a model of bytes, images or sound",
    "pi0": "a model that moves robots",
    "shieldgemma2": "a classifier of images",
    "trocr": "the half of a model that reads scanned text",
}
BESIDE_SOUND = {
    *auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    *auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}
# What transformers uses the others for.
USES = {
    "a model of images": (
        auto.MODEL_FOR_IMAGE_MAPPING_NAMES,
        auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
        auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES,
    ),
    "a model of sound": (
        auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_CTC_MAPPING_NAMES,
        auto.MODEL_FOR_RNNT_MAPPING_NAMES,
        auto.MODEL_FOR_TDT_MAPPING_NAMES,
        auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
        auto.MODEL_FOR_TEXT_TO_SPECTROGRAM_MAPPING_NAMES,
        auto.MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES,
    ),
    "a model of time series": (auto.MODEL_FOR_TIME_SERIES_PREDICTION_MAPPING_NAMES,),
    "a model that embeds pages": (auto.MODEL_FOR_RETRIEVAL_MAPPING_NAMES,),
}


def kind_of(config: PreTrainedConfig) -> Kind:
    """What a checkpoint of this configuration serves as.

    Returns:
        decoder: a language model of text; multimodal: a language model of text that reads images,
        too; encoder: a model that reads text both ways, and writes none.

    Raises:
        UserError: it is none of them, and what it is.
    """
    name = config.model_type
    serves = name not in OTHER and not _encodes_and_decodes(config)
    if serves and _reads_both_ways(config):
        return "encoder"
    if serves and name in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return "multimodal"
    if serves and name in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "multimodal" if name in auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES else "decoder"
    raise UserError(
        f"the model type in its config.json is {name}, {_what_else(config)}: expected a language "
        "model or an encoder of text; take another checkpoint"
    )


def _reads_both_ways(config: PreTrainedConfig) -> bool:
    name = config.model_type
    masked = name in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    classifies = name in auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    return name in BOTH_WAYS or (masked and classifies and not hasattr(config, "vision_config"))


def _encodes_and_decodes(config: PreTrainedConfig) -> bool:
    try:
        parts = (config, config.get_text_config())
    except ValueError:  # it has one for what it reads and one for what it writes
        return True
    return any(getattr(part, "is_encoder_decoder", False) for part in parts)


def _what_else(config: PreTrainedConfig) -> str:
    name = config.model_type
    if name in OTHER:
        return OTHER[name]
    for use, mappings in USES.items():
        if any(name in mapping for mapping in mappings):
            return use
    if _encodes_and_decodes(config):
        return "a model whose decoder writes what its encoder has read"
    if (
        name
        in auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
        | auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    ):
        return "a model of text beside sound"
    return "a model without a head for text"
