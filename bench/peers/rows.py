"""The bench's examples as a trainer takes them, and how many of their tokens are real."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.throughput.lengths import Batch


def sft_rows(batches: Sequence[Batch]) -> list[dict]:
    """Token ids, and a mask by which the loss is of the last token only: the answer's."""
    return [
        {"input_ids": ids, "completion_mask": [0] * (len(ids) - 1) + [1]}
        for batch in batches
        for ids in batch.ids
    ]


def class_rows(batches: Sequence[Batch]) -> list[dict]:
    """Token ids and the class."""
    return [
        {"input_ids": ids, "label": label}
        for batch in batches
        for ids, label in zip(batch.ids, batch.labels, strict=True)
    ]


def real_tokens(inputs: Mapping[str, Any]) -> Any:
    """Tokens of a pass without padding: an int, or a tensor of it, so that no GPU is waited for.

    A padding-free pass, of packed rows or of examples side by side, has no mask.
    """
    mask = inputs.get("attention_mask")
    return inputs["input_ids"].numel() if mask is None else mask.sum()


def passes(lengths: Sequence[int], examples: int, tokens: int) -> int:
    """Passes of that many tokens, the nearest number of them that holds a step's examples."""
    return max(1, round(examples * sum(lengths) / len(lengths) / tokens))
