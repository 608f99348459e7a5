"""A checkpoint of random weights in a folder, for tools that load nothing else.

    python -m bench.peers.checkpoint --backbone llama --size tiny FOLDER

It is made on the GPU if there is one, in a process of its own: unsloth patches transformers.
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerFast

from bench.throughput import published

SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One of as many words as the backbone has tokens; the first four are special, padding is 0."""
    words = [*SPECIAL.values(), *(f"w{i}" for i in range(len(SPECIAL), vocabulary))]
    numbered = {word: i for i, word in enumerate(words)}
    plain = Tokenizer(models.WordLevel(numbered, unk_token=SPECIAL["unk_token"]))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, padding_side="right", **SPECIAL)


def write(config: PreTrainedConfig, folder: Path) -> None:
    """Write a language model of random bfloat16 weights, and its tokenizer."""
    config.num_labels = 2  # the library's own: it is no classifier yet
    config.bos_token_id, config.eos_token_id = 1, 2
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="5GB")
    tokenizer(config.vocab_size).save_pretrained(folder)


def main() -> None:
    """Write the checkpoint that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.checkpoint", description=__doc__)
    parser.add_argument("--backbone", choices=published.BACKBONES, required=True)
    parser.add_argument("--size", choices=published.SIZES, required=True)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    write(published.configuration(args.backbone, args.size), args.folder)


if __name__ == "__main__":
    main()
