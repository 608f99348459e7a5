"""How small a tiny checkpoint is: one table for all configurations, and what single ones need."""

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
    **dict.fromkeys(["v_head_dim", "qk_nope_head_dim", "swa_v_head_dim"], 16),
    **dict.fromkeys(["qk_rope_head_dim", "rotary_dim"], 8),
    **dict.fromkeys(["q_lora_rank", "kv_lora_rank", "o_lora_rank"], 24),
    "qk_head_dim": 24,
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
}
# Sizes that configurations leave to be derived, and that would come out odd.
DERIVED = ("head_dim", "num_key_value_heads")

# What single configurations need besides, by their `model_type`.
SPECIAL: dict[str, dict] = {}
