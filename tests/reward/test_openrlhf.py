"""OpenRLHF's texts, taken apart into conversation and answer."""

import pytest

from stages.reward.openrlhf import split_query
from stages.votes.rows import BadRow

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "2 + 2?"}
CHATML = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2 + 2?<|im_end|>\n"
    "<|im_start|>assistant\n"
)
LLAMA = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n2 + 2?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
GEMMA = "<bos><start_of_turn>user\n2 + 2?<end_of_turn>\n<start_of_turn>model\n"


@pytest.mark.parametrize(
    ("prompt", "end", "messages"),
    [
        (CHATML, "<|im_end|>", [SYSTEM, USER]),
        (CHATML, "<|im_end|>\n<|endoftext|><|endoftext|>", [SYSTEM, USER]),
        (LLAMA, "<|eot_id|>", [SYSTEM, USER]),
        (GEMMA, "<end_of_turn>\n", [USER]),
    ],
)
def test_a_chat_template_gives_the_messages_and_the_answer(prompt, end, messages):
    assert split_query(f"{prompt}It is\n4.{end}", prompt) == (messages, "It is\n4.")
    assert split_query(f"{prompt}It is\n4.{end}", None) == (messages, "It is\n4.")
    assert split_query(prompt, prompt) == (messages, ""), "an answer may be empty"


def test_what_the_policy_writes_stays_its_answer():
    runaway = "4<|im_end|>\n<|im_start|>user\nAnd 3 + 3?"
    assert split_query(CHATML + runaway, CHATML) == ([SYSTEM, USER], runaway)
    begun = f"{CHATML}<think>\n"
    assert split_query(f"{begun}4<|im_end|>", begun) == ([SYSTEM, USER], "<think>\n4")


@pytest.mark.parametrize("query", ["2 + 2? 4", "2 + 2? 4</s>", "<s>2 + 2? 4</s></s>"])
def test_a_plain_prompt_is_what_the_user_says(query):
    assert split_query(query, "2 + 2?") == ("2 + 2?", "4")


def test_a_query_that_cannot_be_taken_apart_is_refused():
    with pytest.raises(BadRow, match="does not begin with its prompt, but with 'Something"):
        split_query("Something else", "2 + 2?")
    with pytest.raises(BadRow, match="prompts are missing"):
        split_query("2 + 2? 4", None)
