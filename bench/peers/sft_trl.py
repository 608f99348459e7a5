"""TRL: its SFTTrainer on a base in NF4, examples packed into rows by its own default."""

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import Trainer
from trl import SFTConfig, SFTTrainer

from bench.peers.checkpoint import tokenizer
from bench.peers.clock import say
from bench.peers.rows import passes, sft_rows
from bench.peers.setting import EXAMPLES, Setting, arguments
from stages.planning.random_weights import random_base

DEFAULTS = {"cuda": "flash_attention_4", "cpu": "sdpa"}
ROWS = 3  # of a pass, each of max_tokens: about the tokens that the scale `full` has in one


def trainer(chosen: Setting, folder: str) -> tuple[Trainer, dict]:
    """The trainer, and how it computes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    attention = chosen.args.attention or DEFAULTS[device.type]
    base = random_base(chosen.config, chosen.params.train, device)
    base.set_attn_implementation(attention)
    say(f"random weights made, attention: {attention}")
    lengths = [len(ids) for batch in chosen.batches for ids in batch.ids]
    rows = chosen.args.rows or ROWS
    each = passes(lengths, EXAMPLES, rows * chosen.max_tokens)
    lora = chosen.params.train.lora
    made = SFTTrainer(
        model=base,
        args=SFTConfig(
            **arguments(chosen, rows, each, folder),
            packing=True,
            max_length=chosen.max_tokens,
            completion_only_loss=True,
        ),
        train_dataset=Dataset.from_list(sft_rows(chosen.batches)),
        processing_class=tokenizer(chosen.config.vocab_size),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora.targets,
        ),
    )
    return made, {"attention": attention, "packing": True, "rows": rows, "passes": each}
