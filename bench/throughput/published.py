"""Shapes of the backbones, as their published config.json files have them, and tiny ones."""

from transformers import AutoConfig, PreTrainedConfig

PAD = 0  # one for all: no example holds it

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
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

# (backbone, size): the checkpoint's name and its configuration.
PUBLISHED: dict[tuple[str, str], tuple[str, dict]] = {
    ("llama", "full"): (
        "Llama-3.1-8B",
        {
            "model_type": "llama",
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "rope_parameters": LLAMA3_ROPE,
        },
    ),
    ("llama", "small"): (
        "SmolLM2-135M",
        {
            "model_type": "llama",
            "vocab_size": 49152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        },
    ),
    ("gemma", "full"): (
        "Gemma-2-9B",
        {
            "model_type": "gemma2",
            "vocab_size": 256000,
            "hidden_size": 3584,
            "intermediate_size": 14336,
            "num_hidden_layers": 42,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 256,
            "max_position_embeddings": 8192,
            "sliding_window": 4096,
            "query_pre_attn_scalar": 256,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    ("gemma", "small"): (
        "Gemma-3-270M",
        {
            "model_type": "gemma3_text",
            "vocab_size": 262144,
            "hidden_size": 640,
            "intermediate_size": 2048,
            "num_hidden_layers": 18,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "max_position_embeddings": 32768,
            "sliding_window": 512,
            "query_pre_attn_scalar": 256,
        },
    ),
    ("qwen", "full"): (
        "Qwen2.5-7B",
        {
            "model_type": "qwen2",
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
    ),
    ("qwen", "small"): (
        "Qwen2.5-0.5B",
        {
            "model_type": "qwen2",
            "vocab_size": 151936,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
    ),
    ("qwen3", "full"): (
        "Qwen3-8B",
        {
            "model_type": "qwen3",
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 40960,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
    ),
    ("gemma3", "full"): (
        "Gemma-3-12B",
        {
            "model_type": "gemma3_text",
            "vocab_size": 262208,
            "hidden_size": 3840,
            "intermediate_size": 15360,
            "num_hidden_layers": 48,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 256,
            "max_position_embeddings": 131072,
            "sliding_window": 1024,
            "query_pre_attn_scalar": 256,
        },
    ),
    ("gpt_oss", "full"): (
        "gpt-oss-20b",
        {
            "model_type": "gpt_oss",
            "vocab_size": 201088,
            "hidden_size": 2880,
            "intermediate_size": 2880,
            "num_hidden_layers": 24,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "num_local_experts": 32,
            "num_experts_per_tok": 4,
            "sliding_window": 128,
            "max_position_embeddings": 131072,
        },
    ),
    ("qwen3_5", "full"): (
        "Qwen3.5-9B",
        {
            "model_type": "qwen3_5_text",
            "vocab_size": 248320,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 32,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
        },
    ),
    ("llama", "tiny"): ("tiny Llama", {"model_type": "llama", **TINY}),
    ("gemma", "tiny"): ("tiny Gemma 2", {"model_type": "gemma2", "sliding_window": 64, **TINY}),
    ("qwen", "tiny"): ("tiny Qwen2", {"model_type": "qwen2", **TINY}),
    ("qwen3", "tiny"): ("tiny Qwen3", {"model_type": "qwen3", **TINY}),
    ("gemma3", "tiny"): ("tiny Gemma 3", {"model_type": "gemma3_text", **TINY}),
    ("gpt_oss", "tiny"): (
        "tiny gpt-oss",
        {"model_type": "gpt_oss", "num_local_experts": 4, **TINY},
    ),
    ("qwen3_5", "tiny"): ("tiny Qwen3.5", {"model_type": "qwen3_5_text", **TINY}),
}
BACKBONES = sorted({backbone for backbone, _ in PUBLISHED})
SIZES = ["tiny", "small", "full"]


def configuration(backbone: str, size: str) -> PreTrainedConfig:
    """The configuration of a classifier of three classes with that backbone's shape."""
    _, values = PUBLISHED[backbone, size]
    return AutoConfig.for_model(**values, pad_token_id=PAD, num_labels=3)


def name(backbone: str, size: str) -> str:
    """What the checkpoint of that shape is called."""
    return PUBLISHED[backbone, size][0]
