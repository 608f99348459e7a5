"""unsloth: its loader, adapter and gradient checkpointing, under TRL's or transformers' trainer.

Import this before anything that imports transformers: unsloth patches it.
"""

import unsloth  # isort: skip
import subprocess
import sys

import torch
from datasets import Dataset
from transformers import (
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from bench.peers.clock import say
from bench.peers.rows import class_rows, sft_rows
from bench.peers.setting import EXAMPLES, Setting, arguments

ROWS = 4  # examples of a pass
# Its fast layers are of these names; all linear ones of Llama and Gemma.
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def trainer(chosen: Setting, folder: str) -> tuple[Trainer, dict]:
    """The trainer, and how it computes."""
    rows = chosen.args.rows or ROWS
    given = arguments(chosen, rows, max(1, EXAMPLES // rows), folder)
    model, words = adapted(chosen, folder)
    make = sft if chosen.args.task == "sft" else classification
    say(f"building the trainer: {make.__name__}")
    made = make(model, words, given, chosen)
    return made, {
        "attention": model.config._attn_implementation,
        "padding_free": getattr(made.args, "padding_free", False),
        "collator": type(made.data_collator).__name__,
        "rows": rows,
        "passes": made.args.gradient_accumulation_steps,
        "optimizer": str(made.args.optim),
    }


def adapted(chosen: Setting, folder: str) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    """The checkpoint in NF4 with its adapter, and the tokenizer, as unsloth gives them."""
    say("writing a checkpoint of random weights")
    command = [sys.executable, "-m", "bench.peers.checkpoint", f"{folder}/base"]
    shape = ["--backbone", chosen.args.backbone, "--size", chosen.args.size]
    subprocess.run(command + shape, check=True)
    attention = chosen.args.attention
    extra = {"attn_implementation": attention} if attention else {}
    if chosen.args.task == "classification":
        extra["num_labels"] = 3
    say("FastLanguageModel.from_pretrained")
    model, words = unsloth.FastLanguageModel.from_pretrained(
        f"{folder}/base",
        max_seq_length=chosen.max_tokens,
        dtype=torch.bfloat16,
        load_in_4bit=True,
        **extra,
    )
    say("FastLanguageModel.get_peft_model")
    lora = chosen.params.train.lora
    model = unsloth.FastLanguageModel.get_peft_model(
        model,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=LINEAR,
        use_gradient_checkpointing="unsloth" if chosen.args.checkpointing else False,
        random_state=0,
    )
    return model, words


def sft(
    model: torch.nn.Module, words: PreTrainedTokenizerBase, given: dict, chosen: Setting
) -> Trainer:
    """TRL's trainer as unsloth patches it: examples side by side in a pass, where it can."""
    return SFTTrainer(
        model=model,
        args=SFTConfig(**given, max_length=chosen.max_tokens, completion_only_loss=True),
        train_dataset=Dataset.from_list(sft_rows(chosen.batches)),
        processing_class=words,
    )


def classification(
    model: torch.nn.Module, words: PreTrainedTokenizerBase, given: dict, chosen: Setting
) -> Trainer:
    """transformers' trainer on padded batches, since TRL has none for classes."""
    return Trainer(
        model=model,
        args=TrainingArguments(**given),
        train_dataset=Dataset.from_list(class_rows(chosen.batches)),
        data_collator=DataCollatorWithPadding(words),
        processing_class=words,
    )
