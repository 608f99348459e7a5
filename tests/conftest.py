"""Tiny models of the real architectures, a real tokenizer, and a few made-up battles."""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.support.battles import make_battles

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs a hub starts its own
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers share two cores

import pandas as pd
import pytest
import torch
import transformers
from playwright.sync_api import Browser, sync_playwright
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from stages.config.params import Params
from tests.support.once import once
from tests.support.places import REAL_VOTES
from tests.support.settings import raw_params

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
WINDOW = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
CONFIGS = {
    "llama": transformers.LlamaConfig,
    "gemma2": transformers.Gemma2Config,
    "gemma3": transformers.Gemma3TextConfig,
    "qwen2": transformers.Qwen2Config,
}


# test_verify.py takes the clone that test_pipeline.py makes: not second, else it would wait for it.
LONGEST = (
    "test_pipeline.py",
    "test_settle.py",
    "test_tracking.py",
    "test_blend.py",
    "test_verify.py",
    "test_pages.py",
    "test_tune.py",
    "test_export.py",
    "test_fold.py",
    "test_plan.py",
    "test_sources.py",
    "test_way.py",
    "test_parallel.py",
    "test_study.py",
    "test_carried_away.py",
    "test_predict.py",
    "test_finished.py",
    "test_refit.py",
    "test_gates.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files come first: both workers then end at about the same time."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), "")
    if not path:
        pytest.skip("no Chromium on this machine: install it to test pages in a browser")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def real_votes() -> Path:
    """The file of real votes, where there is one."""
    if not REAL_VOTES.exists():
        pytest.skip("no real votes beside this checkout")
    return REAL_VOTES


@pytest.fixture
def params() -> Params:
    """The shipped params with a budget for tiny models."""
    raw = raw_params()
    raw["scales"]["smoke"] |= {"rows": 24, "max_tokens": 128, "token_budget": 256, "batch_size": 4}
    raw["train"] |= {"dtype": "float32", "log_steps": 1, "save_steps": 2}
    raw["train"]["lora"] |= {"r": 4, "alpha": 8}
    raw["backbones"]["llama"]["small"] |= {"lr": 5.0e-3, "head_lr": 5.0e-3}
    return Params.model_validate(raw)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a start token, as Llama 3's and Gemma's have."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["User: which answer is better? A, B or tie"] * 8, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair=None, special_tokens=[("<s>", 0)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, tiny_tokenizer):
    """Give the folder of a tiny random checkpoint of an architecture, made once a session."""

    def make(architecture: str, path: Path) -> None:
        window = WINDOW if architecture.startswith("gemma") else {}
        config = CONFIGS[architecture](
            vocab_size=len(tiny_tokenizer), bos_token_id=0, eos_token_id=1, **SIZES, **window
        )
        transformers.set_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.save_pretrained(path)
        tiny_tokenizer.save_pretrained(path)

    return lambda name="llama": once(tmp_path_factory, name, partial(make, name))


@pytest.fixture
def battles() -> pd.DataFrame:
    """Made-up battles; see make_battles."""
    return make_battles()
