"""OpenRLHF's remote reward model (--remote_rm_url): its texts, taken apart.

OpenRLHF sends what the policy has read and written as one text: the prompt, mostly in the policy's
chat template, the answer, and special tokens. A run has learned from conversations, and needs these
back.
"""

import re

from stages.votes.rows import BadRow

# How chat templates mark a message's role and its text.
TEMPLATES = {
    "ChatML": re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL),
    "Llama 3": re.compile(
        r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n(.*?)(?:<\|eot_id\|>|\Z)", re.DOTALL
    ),
    "Gemma": re.compile(r"<start_of_turn>(\w+)\n(.*?)(?:<end_of_turn>|\Z)", re.DOTALL),
}
STARTS = ("<s>", "<bos>", "<|begin_of_text|>")
ENDS = (
    *("</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>"),
    *("<|im_end|>", "<|eot_id|>", "<end_of_turn>"),
)


def split_query(query: str, prompt: str | None) -> tuple[str | list[dict], str]:
    """The conversation and the answer of a query.

    Args:
        query: the prompt and the answer to it, as the policy's tokenizer decodes them.
        prompt: the prompt alone; None where the query is in one of TEMPLATES.

    Returns:
        A text or messages; and the answer, without the special tokens and spaces around it.

    Raises:
        BadRow: the query does not begin with its prompt, or there is no telling where it ends.
    """
    spoken = _spoken(query if prompt is None else prompt)
    if prompt is None:
        if not spoken:
            raise BadRow("prompts are missing, which say where the answer of a query begins")
        answer = ""
    else:
        answer = _behind(query, prompt)
    if not spoken:
        return str(prompt), _without_end(answer)
    if spoken[-1]["role"] not in ("user", "system"):  # the answer, or how it has to begin
        answer = spoken.pop()["content"] + answer
    return spoken, _without_end(answer)


def _spoken(text: str) -> list[dict]:
    """The messages of a text in one of TEMPLATES; none if it is in none."""
    for mark in TEMPLATES.values():
        if found := mark.findall(text):
            return [{"role": role, "content": said} for role, said in found]
    return []


def _behind(query: str, prompt: str) -> str:
    for start in ("", *STARTS):
        if query.startswith(start + prompt):
            return query.removeprefix(start + prompt)
    raise BadRow(f"a query does not begin with its prompt, but with {query[:40]!r}")


def _without_end(answer: str) -> str:
    answer = answer.strip()
    while found := [end for end in ENDS if answer.endswith(end)]:
        answer = answer.removesuffix(found[0]).rstrip()
    return answer
