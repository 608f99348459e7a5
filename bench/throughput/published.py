"""Shapes of the backbones, as their published config.json files have them, and tiny ones."""

from transformers import AutoConfig, PreTrainedConfig

from stages.planning.published import SHAPES

PAD = 0  # one for all: no example holds it

TINY = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "initializer_range": 0.1,
}

# (backbone, size): the checkpoint's name.
NAMES = {
    ("llama", "full"): "Llama-3.1-8B",
    ("llama", "small"): "SmolLM2-135M",
    ("gemma", "full"): "Gemma-2-9B",
    ("gemma", "small"): "Gemma-3-270M",
    ("qwen", "full"): "Qwen2.5-7B",
    ("qwen", "small"): "Qwen2.5-0.5B",
    ("qwen3", "full"): "Qwen3-8B",
    ("gemma3", "full"): "Gemma-3-12B",
    ("gpt_oss", "full"): "gpt-oss-20b",
    ("qwen3_5", "full"): "Qwen3.5-9B",
    ("llama", "tiny"): "tiny Llama",
    ("gemma", "tiny"): "tiny Gemma 2",
    ("qwen", "tiny"): "tiny Qwen2",
    ("qwen3", "tiny"): "tiny Qwen3",
    ("gemma3", "tiny"): "tiny Gemma 3",
    ("gpt_oss", "tiny"): "tiny gpt-oss",
    ("qwen3_5", "tiny"): "tiny Qwen3.5",
}
TINY_SHAPES: dict[str, dict] = {
    "tiny Llama": {"model_type": "llama"},
    "tiny Gemma 2": {"model_type": "gemma2", "sliding_window": 64},
    "tiny Qwen2": {"model_type": "qwen2"},
    "tiny Qwen3": {"model_type": "qwen3"},
    "tiny Gemma 3": {"model_type": "gemma3_text"},
    "tiny gpt-oss": {"model_type": "gpt_oss", "num_local_experts": 4},
    "tiny Qwen3.5": {"model_type": "qwen3_5_text"},
}
BACKBONES = sorted({backbone for backbone, _ in NAMES})
SIZES = ["tiny", "small", "full"]


def configuration(backbone: str, size: str) -> PreTrainedConfig:
    """The configuration of a classifier of three classes with that backbone's shape."""
    found = name(backbone, size)
    values = TINY_SHAPES[found] | TINY if size == "tiny" else SHAPES[found]
    return AutoConfig.for_model(**values, pad_token_id=PAD, num_labels=3)


def name(backbone: str, size: str) -> str:
    """What the checkpoint of that shape is called."""
    return NAMES[backbone, size]
