"""How small a tiny checkpoint is: one table for all configurations, and what single ones need."""

from typing import Any

# Sizes by attribute name. A name counts where a configuration has it with a number as default.
SIZES = {
    **dict.fromkeys(["vocab_size", "vocab_size_per_layer_input", "decoder_vocab_size"], 384),
    # widths
    **dict.fromkeys(["hidden_size", "d_model", "n_embd", "emb_dim", "embedding_dim"], 64),
    **dict.fromkeys(["embed_dim", "embedding_size", "word_embed_proj_dim", "out_hidden_size"], 64),
    **dict.fromkeys(["hidden_dim", "input_embedding_size", "output_embedding_size"], 64),
    **dict.fromkeys(["projection_dim", "projector_hidden_size", "vision_output_dim"], 64),
    **dict.fromkeys(["output_dim", "encoder_hidden_size", "text_hidden_size", "lru_width"], 64),
    **dict.fromkeys(["attention_hidden_size", "output_channels", "mm_hidden_size"], 64),
    **dict.fromkeys(["hidden_size_global", "cross_attention_hidden_size"], 64),
    # feed-forward widths
    **dict.fromkeys(["intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim"], 96),
    **dict.fromkeys(["d_ff", "dff", "dim_ff", "d_inner", "mlp_dim", "feed_forward_size"], 96),
    **dict.fromkeys(["ffn_hidden_size", "intermediate_size_mlp", "dense_intermediate_size"], 96),
    **dict.fromkeys(["moe_intermediate_size", "shared_expert_intermediate_size"], 32),
    **dict.fromkeys(["shared_intermediate_size", "expert_ffn_hidden_size"], 32),
    **dict.fromkeys(["moe_shared_expert_intermediate_size", "router_hidden_size"], 32),
    # heads
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads"], 4),
    **dict.fromkeys(["decoder_attention_heads", "encoder_attention_heads", "attention_heads"], 4),
    **dict.fromkeys(["num_encoder_attention_heads", "num_decoder_attention_heads"], 4),
    **dict.fromkeys(["swa_num_attention_heads", "num_query_groups"], 4),
    **dict.fromkeys(["num_key_value_heads", "swa_num_key_value_heads", "kv_n_heads"], 2),
    "num_kv_heads": 2,
    **dict.fromkeys(["head_dim", "swa_head_dim", "d_kv", "d_head", "dim_head", "kv_channels"], 16),
    **dict.fromkeys(["attention_head_size", "attention_head_dim"], 16),
    **dict.fromkeys(["v_head_dim", "swa_v_head_dim"], 16),
    **dict.fromkeys(["qk_rope_head_dim", "qk_nope_head_dim"], 16),
    **dict.fromkeys(["q_lora_rank", "kv_lora_rank", "o_lora_rank"], 24),
    "qk_head_dim": 32,
    "rotary_dim": 8,
    "query_pre_attn_scalar": 16,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "index_topk": 8,
    # layers
    **dict.fromkeys(["decoder_layers", "encoder_layers", "num_decoder_layers"], 2),
    **dict.fromkeys(["num_encoder_layers", "depth", "n_layers", "n_layer", "num_layers"], 2),
    **dict.fromkeys(["num_hidden_layers", "num_blocks"], 2),
    # experts
    **dict.fromkeys(["num_experts", "num_local_experts", "n_routed_experts"], 4),
    "moe_num_experts": 4,
    **dict.fromkeys(["num_experts_per_tok", "moe_topk", "moe_k", "moe_top_k"], 2),
    **dict.fromkeys(["num_experts_per_token", "top_k_experts"], 2),
    **dict.fromkeys(["n_group", "num_expert_group"], 2),
    "topk_group": 1,
    **dict.fromkeys(["n_shared_experts", "num_shared_experts", "moe_num_shared_experts"], 1),
    **dict.fromkeys(["first_k_dense_replace", "num_dense_layers"], 1),
    # a prediction of later tokens is no part of a forward
    **dict.fromkeys(["num_nextn_predict_layers", "num_mtp_layers"], 0),
    # positions and windows
    **dict.fromkeys(["max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"], 512),
    **dict.fromkeys(["model_max_length", "context_length", "max_target_positions"], 512),
    **dict.fromkeys(["max_source_positions", "original_max_position_embeddings"], 512),
    **dict.fromkeys(["sliding_window", "sliding_window_size", "attention_window_size"], 16),
    **dict.fromkeys(["local_attention", "local_attention_window_len", "window_size"], 16),
    **dict.fromkeys(["attention_chunk_size", "keep_window_size"], 16),
    # states
    **dict.fromkeys(["linear_num_key_heads", "linear_num_heads"], 2),
    "linear_num_value_heads": 4,
    **dict.fromkeys(["linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"], 16),
    **dict.fromkeys(["mamba_d_state", "state_size", "ssm_state_size"], 16),
    **dict.fromkeys(["mamba_n_heads", "mamba_num_heads"], 8),
    **dict.fromkeys(["mamba_d_head", "mamba_head_dim", "mamba_headdim"], 16),
    **dict.fromkeys(["mamba_n_groups", "n_groups", "mamba_ngroups"], 2),
    **dict.fromkeys(["mamba_dt_rank", "time_step_rank"], 8),
    **dict.fromkeys(["mamba_chunk_size", "chunk_size"], 16),
    "n_mamba_heads": 2,
    # images and sound
    "image_size": 32,
    "patch_size": 8,
    "num_position_embeddings": 16,
    "position_embedding_size": 16,
    "num_mel_bins": 16,
    "codebook_size": 32,
    "codebook_dim": 16,
    "num_filters": 8,
    "qformer_hidden_size": 64,
    "base_channels": 32,
    "alignment_intermediate_size": 96,
    **dict.fromkeys(["projector_input_dim", "projector_output_dim"], 64),
    "max_img_size": 64,
    # encoders
    **dict.fromkeys(["entity_vocab_size", "shape_vocab_size", "pronunciation_vocab_size"], 16),
    **dict.fromkeys(["shape_embed_dim", "pronunciation_embed_dim"], 32),
    "d_latents": 64,
    "num_latents": 16,
    "num_self_attends_per_block": 2,
}
# Sizes that configurations leave to be derived, and that would come out odd.
DERIVED = ("head_dim", "num_key_value_heads")

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
YARN = ROPE | {
    "rope_type": "yarn",
    "factor": 4.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 128,
}
# Positions of text, height and width turn sections of a head of 16, which sum to its half.
SECTIONS = ROPE | {"mrope_section": [2, 3, 3]}
HALF_SECTIONS = ROPE | {"partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}
# Scales that published checkpoints have, and that the defaults leave at one.
GRANITE = {
    "embedding_multiplier": 2.0,
    "logits_scaling": 3.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.2,
}
GEMMA4 = {
    "global_head_dim": 32,
    "num_global_key_value_heads": 1,
    "attention_k_eq_v": True,
    "final_logit_softcapping": 30.0,
    "hidden_size_per_layer_input": 16,
}
EACH_HEAD = {"num_key_value_heads": 4}

LATE_ATTENTION = ["linear_attention", "hybrid"] * 2 + ["linear_attention"]

# What single configurations need besides, by their `model_type`.
SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1], "mamba_n_groups": 1},
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "chameleon": {"vocabulary_map": {"<image>": 5, "IMGIMGAZ": 6}},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {"sliding_attention": ROPE, "full_attention": None},
    },
    "cosmos3_edge_text": {"rope_parameters": SECTIONS},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"], "num_experts_per_tok": 2},
    "deepseek_v2": {"num_experts_per_tok": 2, "mlp_layer_types": ["dense", "sparse"]},
    "deepseek_v3": {"rope_parameters": YARN},
    "diffusion_gemma_text": {
        "global_head_dim": 32,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 32,
    },
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note_audio_encoder": {"adapter_input_size": 64, "adapter_out_dim": 64},
    "dots3_note_text": EACH_HEAD
    | {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 4}
    | {"swa_q_lora_rank": 24, "swa_kv_lora_rank": 24, "swa_head_dim": 32}
    | {"swa_qk_nope_head_dim": 16, "swa_v_head_dim": 16, "sliding_window_size": 16},
    "dots3_note_vision_encoder": {"adapter_in_dim": 64, "adapter_out_dim": 64},
    "emu3": {"vocabulary_map": {"<|extra_200|>": 4, "<image>": 5, "<|visual token 000000|>": 6}},
    "ernie4_5_vl_moe_text": {
        "moe_intermediate_size": [32, 16],
        "rope_parameters": SECTIONS | {"mrope_section": [3, 3, 2]},
    },
    "esm": {"vocab_size": 384, "pad_token_id": 2, "mask_token_id": 3},
    "esmc": EACH_HEAD,
    "falcon_h1": {
        "mamba_d_ssm": 128,
        "embedding_multiplier": 2.0,
        "lm_head_multiplier": 0.5,
        "key_multiplier": 0.5,
        "attention_out_multiplier": 0.5,
        "mlp_multipliers": [0.5, 2.0],
        "ssm_multipliers": [0.5, 1.5, 0.5, 1.5, 0.5],
    },
    "florence_vision": {
        "depths": [1, 1, 1, 1],
        "embed_dim": [16, 32, 32, 64],
        "num_heads": [2, 2, 2, 4],
        "num_groups": [2, 2, 2, 4],
    },
    "gemma3n_audio": {"vocab_offset": 392, "vocab_size": 8},
    "gemma3n_text": {
        "vocab_size": 400,  # the tokenizer's, and eight entries each for images and sound
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "intermediate_size": [96] * 4,
        "activation_sparsity_pattern": [0.95, 0.0, 0.95, 0.0],
        "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 16,
        "laurel_rank": 8,
    },
    "gemma3n_vision": {"vocab_offset": 384, "vocab_size": 8},
    "gemma4_text": GEMMA4,
    "gemma4_unified_text": GEMMA4,
    "glm4v_moe_text": {"rope_parameters": HALF_SECTIONS},
    "glm4v_text": {"rope_parameters": SECTIONS},
    "glm5_next_text": EACH_HEAD | {"index_kpool": 4},
    "glm_ocr_text": {"rope_parameters": SECTIONS},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granite": GRANITE,
    "granite_swa": GRANITE,
    "granite4_vision": {
        "downsample_rate": "1/2",
        "deepstack_layer_map": [[0, 0]],
        "spatial_target_layers": [1],
    },
    "granite4_vision_text": GRANITE,
    "granitemoe": GRANITE,
    "granitemoe_swa": GRANITE | {"shared_intermediate_size": 32},
    "granitemoehybrid": GRANITE | {"layer_types": ["linear_attention", "full_attention"]},
    "granitemoeshared": GRANITE | {"shared_intermediate_size": 32},
    "hunyuan_vl_text": {"rope_parameters": SECTIONS | {"mrope_section": [2, 2, 2, 2]}},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 4, "attn_layer_offset": 2},
    "laguna": {"num_attention_heads_per_layer": [4, 4]},
    "layoutlmv3": {"coordinate_size": 11, "shape_size": 10},
    "lfm2": {
        "num_hidden_layers": 2,
        "layer_types": ["conv", "full_attention"],
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "lilt": {"hidden_size": 96},
    "llama4_text": {
        "num_hidden_layers": 4,
        "layer_types": ["chunked_attention"] * 3 + ["full_attention"],
        "no_rope_layers": [1, 1, 1, 0],
        "moe_layers": [1, 3],
    },
    "mamba2": {"num_heads": 8},
    "mimi": {"upsample_groups": 64},
    "minicpm3": {"dim_model_base": 32},
    # all layers have the window, so that nothing beyond two of them is read
    "ministral": {"sliding_window": 64},
    "mistral": {"sliding_window": 64},
    "mistral4": {"head_dim": 32},
    "molmo2_adapter": {"vision_feature_layer": [1, 0]},
    "muse_spark_audio": {"hidden_sizes": [16, 32, 32, 64]},
    "paddleocr_vl_text": {"rope_parameters": SECTIONS},
    "qwen2_5_omni": {"enable_audio_output": False},
    "qwen2_5_omni_text": {"rope_parameters": SECTIONS},
    "qwen2_5_vl_text": {"rope_parameters": SECTIONS},
    "qwen2_vl_text": {"rope_parameters": SECTIONS},
    "qwen3_5_moe_text": {"rope_parameters": HALF_SECTIONS},
    "qwen3_5_text": {"rope_parameters": HALF_SECTIONS},
    "qwen3_omni_moe": {"enable_audio_output": False},
    "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 32},
    "qwen3_vl_moe_text": {"rope_parameters": SECTIONS},
    "qwen3_vl_text": {"rope_parameters": SECTIONS},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 8,
        "indexer_compress_ratio": 4,
        "hc_lowrank": 16,
    },
    "radio": {"video_temporal_patch_size": 2},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "axial_pos_shape": [16, 32],
        "axial_pos_embds_dim": [32, 32],
        "attn_layers": ["local", "lsh"],
        "local_attn_chunk_length": 16,
        "lsh_attn_chunk_length": 16,
        "num_buckets": 4,
    },
    "step3p5": {
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "mlp_layer_types": ["dense", "sparse"],
        "num_sliding_attention_heads": 4,
        "share_expert_dim": 32,
    },
    "timm_wrapper": {"hidden_size": 64, "model_args": {"embed_dim": 64}},
    "unlimited_ocr_text": EACH_HEAD,
    "vibevoice_acoustic_tokenizer_encoder": {"depths": [1] * 7},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 5,
        "layers_block_type": LATE_ATTENTION,
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
        "num_key_value_heads": 4,
    },
    "zamba2": {
        "num_hidden_layers": 5,
        "layers_block_type": LATE_ATTENTION,
        "num_key_value_heads": 4,
        "mamba_ngroups": 1,
    },
    "zaya": {"num_experts_per_tok": 1},
}
