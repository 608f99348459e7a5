"""The bench of other tools, as far as it goes without them: examples, tokens, rounds, refusals."""

import importlib.util
import sys

import pytest
import torch

from bench.peers import checkpoint, clock, rows
from bench.peers.__main__ import MODULES, main
from bench.throughput.lengths import arena_lengths, batches

FULL = ["--backbone", "llama", "--size", "full"]


@pytest.fixture(autouse=True)
def uninstalled(monkeypatch):
    """Neither tool is found, wherever the tests run."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in MODULES else find(name)
    )


def refused(monkeypatch, capsys, *options: str) -> str:
    monkeypatch.setattr(sys, "argv", ["", *options, *FULL])
    with pytest.raises(SystemExit, match="1"):
        main()
    return capsys.readouterr().err


@pytest.mark.parametrize("peer", list(MODULES))
def test_a_tool_that_is_missing_is_named_with_how_to_install_it(peer, monkeypatch, capsys):
    said = refused(monkeypatch, capsys, "--peer", peer, "--task", "sft")
    assert said.startswith(f"error: --peer {peer} needs the package {peer}")
    assert f"pip install {peer}" in said


def test_trl_has_no_classifier(monkeypatch, capsys):
    said = refused(monkeypatch, capsys, "--peer", "trl", "--task", "classification")
    assert "bench.throughput" in said


def test_rows_hold_every_example_and_the_loss_is_of_its_last_token():
    lengths = arena_lengths(8, 64)
    made = batches(lengths, 4, vocabulary=512)
    sft, classes = rows.sft_rows(made), rows.class_rows(made)
    assert [len(row["input_ids"]) for row in sft] == lengths
    assert all(
        row["completion_mask"] == [0] * (n - 1) + [1] for row, n in zip(sft, lengths, strict=True)
    )
    assert [row["input_ids"] for row in classes] == [row["input_ids"] for row in sft]
    assert [row["label"] for row in classes] == [k for batch in made for k in batch.labels]


def test_padding_does_not_count():
    ids, mask = torch.ones(2, 5), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    assert rows.real_tokens({"input_ids": ids, "attention_mask": mask}) == 8
    assert rows.real_tokens({"input_ids": ids}) == 10


def test_a_step_has_as_many_passes_as_its_examples_need():
    assert rows.passes([500, 1500], examples=16, tokens=6144) == 3
    assert rows.passes([10], examples=16, tokens=6144) == 1


def test_rounds_leave_out_the_first_steps():
    settling = [10.0 * (i + 1) for i in range(clock.SETTLING)]
    start = settling[-1]
    ends = [*settling, start + 1, start + 2, start + 4, start + 6]
    tokens = [1] * clock.SETTLING + [100, 100, 100, 300]
    assert clock.rates(ends, tokens, steps=2) == [100, 100]


def test_the_tokens_of_all_passes_of_a_step_are_counted():
    watch = clock.Clock()
    step = watch.counting(lambda model, inputs: "loss")
    for length in (3, 5):
        assert step(None, {"input_ids": torch.ones(1, length)}) == "loss"
    watch.on_step_end()
    step(None, {"input_ids": torch.ones(1, 2)})
    watch.on_step_end()
    assert watch.tokens == [8, 2]


def test_the_tokenizer_has_a_word_for_every_token():
    words = checkpoint.tokenizer(16)
    assert len(words) == 16 and words.pad_token_id == 0
    assert words("w4 w15")["input_ids"] == [4, 15]
