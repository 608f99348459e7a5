"""Whatever the votes hold, a battle keeps its question, a share of each part, and whole tokens."""

import copy
import json
import re
import time

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from stages.backbones import sources
from stages.config.errors import UserError
from stages.config.params import Params, Prompt
from stages.model.prompts import (
    ANSWERS,
    Round,
    Template,
    answer_ids,
    counted,
    fill,
    leading_special,
)
from tests.support.places import REPO
from tests.support.settings import raw_params

SHARES = Prompt(prompt=0.2, response_a=0.4, response_b=0.4)
PARTS = ("prompt", "response_a", "response_b")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
TURNS = st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4)
# A session's tokenizer is shared between examples on purpose: it holds no state.
SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="session")
def tiny_pieces() -> PreTrainedTokenizerFast:
    """A tiny tokenizer of Gemma's kind: a space is a sign of a piece, unknown signs are bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=["<bos>", "<eos>", "<unk>"], show_progress=False
    )
    texts = ["User: which answer is better?", *[" A", " B", " tie"] * 8, *map(chr, range(32, 127))]
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    vocab, merges = learned["vocab"], [tuple(merge) for merge in learned["merges"]]
    vocab |= {f"<0x{byte:02X}>": len(vocab) + byte for byte in range(256)}
    tokenizer.model = models.BPE(vocab, merges, byte_fallback=True, unk_token="<unk>")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair=None, special_tokens=[("<bos>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


FETCHED = [pytest.param(name, marks=pytest.mark.slow) for name in ("llama", "gemma")]


@pytest.fixture(scope="session", params=["bytes", "pieces", *FETCHED])
def tokenizer(request, tiny_tokenizer, tiny_pieces):
    """Tiny tokenizers, and those of the two small checkpoints that packages carry."""
    if request.param in ("bytes", "pieces"):
        return tiny_tokenizer if request.param == "bytes" else tiny_pieces
    raw = raw_params()
    params = Params.model_validate(raw | {"model": request.param})
    record = sources.resolve(params.checkpoint, request.param, "small", REPO / ".state")
    weights = sources.fetch(record, params.checkpoint, REPO / ".state")
    return AutoTokenizer.from_pretrained(weights)


def template(tokenizer, max_tokens=160) -> Template:
    return Template(tokenizer, max_tokens, SHARES)


def rounds_of(template, turns) -> list[Round]:
    prompts, first, second = map(list, zip(*turns, strict=True))
    return template.tokenize(battle(prompts, first, second))[0]


def battle(*texts: list[str], **others: object) -> pd.DataFrame:
    """One battle, from the turns of its prompt, answer A and answer B."""
    return pd.DataFrame([dict(zip(PARTS, texts, strict=True)) | others])


@SETTINGS
@given(turns=TURNS)
def test_the_question_stays_and_the_budget_holds(tokenizer, turns):
    shape = template(tokenizer)
    encoded = shape.encode(rounds_of(shape, turns))
    assert len(encoded) <= 160
    assert encoded.ids[-len(shape.question) :] == shape.question
    assert encoded.ids[: len(shape.start)] == leading_special(tokenizer)


@SETTINGS
@given(turns=TURNS)
def test_no_text_makes_a_special_token(tokenizer, turns):
    hostile = [
        (p + "<|im_end|></s><eos>", a + "<bos><s>", b + "<|endoftext|>") for p, a, b in turns
    ]
    shape = template(tokenizer)
    ids = shape.encode(rounds_of(shape, hostile)).ids[len(shape.start) :]
    assert not set(ids) & set(tokenizer.all_special_ids)


@SETTINGS
@given(turns=TURNS)
def test_a_battle_that_fits_is_kept_to_the_last_token(tokenizer, turns):
    shape = template(tokenizer, max_tokens=20000)
    rounds = rounds_of(shape, turns)
    encoded = shape.encode(rounds)
    kept = [tokens for r in rounds for tokens in (r.prompt, r.a, r.b)]
    marks = shape.marks * len(rounds)
    body = [i for mark, part in zip(marks, kept, strict=True) for i in (*mark, *part)]
    assert encoded.ids == shape.start + body + shape.question
    assert encoded.dropped == 0


@SETTINGS
@given(turns=TURNS)
def test_swapping_answers_is_encoding_the_swapped_battle(tokenizer, turns):
    shape = template(tokenizer)
    exchanged = [(p, b, a) for p, a, b in turns]
    swapped = shape.encode(rounds_of(shape, turns), swapped=True)
    assert swapped.ids == shape.encode(rounds_of(shape, exchanged)).ids


@SETTINGS
@given(lengths=st.tuples(*[st.integers(0, 400)] * 3))
@example(lengths=(21, 40, 41))
def test_every_part_of_the_newest_round_keeps_its_share(tokenizer, lengths):
    shape = template(tokenizer)
    token = shape.question[-1]
    last = Round(*([token] * n for n in lengths))
    fitted = shape._fit(last, room=100)
    assert len(fitted) <= 100
    for part, whole, share in zip(
        (fitted.prompt, fitted.a, fitted.b), lengths, shape.shares, strict=True
    ):
        assert len(part) >= min(whole, int(100 * share))


def test_the_oldest_rounds_are_dropped_first(tokenizer):
    shape = template(tokenizer)
    turns = [(f"prompt {i}", f"first {i} " * 8, f"second {i} " * 8) for i in range(6)]
    text = tokenizer.decode(shape.encode(rounds_of(shape, turns)).ids)
    assert "prompt 5" in text and "first 5" in text and "second 5" in text
    assert "prompt 0" not in text


def test_counts_stand_before_their_answer_and_survive_truncation(tokenizer):
    shape = Template(tokenizer, 1000, SHARES.model_copy(update={"counts": True}))
    rounds = rounds_of(shape, [("p", "- one\n- two\n" * 300, "**short** answer")])
    long = "1200 words, 600 lines, 600 list items, 0 headings, 0 bold, 0 code blocks"
    short = "2 words, 1 lines, 0 list items, 0 headings, 1 bold, 0 code blocks"
    for swapped, a, b in ((False, long, short), (True, short, long)):
        encoded = shape.encode(rounds, swapped)
        text = tokenizer.decode(encoded.ids).replace(" ", "")
        assert f"AnswerA:({a})".replace(" ", "") in text
        assert f"AnswerB:({b})".replace(" ", "") in text
        assert encoded.dropped > 0


@given(st.text(st.sampled_from(" \n\t\r-*•1.)a\u2028"), max_size=40))
def test_list_items_are_counted_at_the_start_of_a_line(answer):
    items = len(re.findall(r"(?m)^\s*(?:[-*•]|\d+[.)]) ", answer))
    assert f", {items} list items, " in counted(answer)


@pytest.mark.parametrize("text", ["\n", " \n", "**a", "```", "1", "#", "- ", "\u3000"])
def test_counting_takes_time_in_proportion_to_the_text(text):
    start = time.process_time()
    counted(text * 200_000)
    assert time.process_time() - start < 5, "minutes if it were quadratic"


def test_dropped_tokens_are_counted(tokenizer):
    shape = template(tokenizer)
    rounds = rounds_of(shape, [("p", "word " * 500, "other " * 500)])
    encoded = shape.encode(rounds)
    whole = template(tokenizer, max_tokens=20000).encode(rounds)
    assert encoded.dropped == len(whole) - len(encoded)


@given(lengths=st.lists(st.integers(0, 500), min_size=3, max_size=3), room=st.integers(0, 600))
def test_room_is_filled_and_never_exceeded(lengths, room):
    sizes = fill(lengths, (0.2, 0.4, 0.4), room)
    assert sum(sizes) <= room
    assert all(size <= length for size, length in zip(sizes, lengths, strict=True))
    assert sum(sizes) >= min(room, sum(lengths)) - 3, "all but rounding is used"


def test_answers_begin_with_tokens_of_their_own(tokenizer):
    ids = answer_ids(tokenizer)
    for id_, answer in zip(ids, ANSWERS, strict=True):
        assert answer.strip().startswith(tokenizer.decode([id_]).strip())


def test_without_ties_neither_the_question_nor_the_answers_name_one(tokenizer):
    shape = Template(tokenizer, 160, SHARES, classes=2)
    text = tokenizer.decode(shape.encode(rounds_of(shape, [("p", "first", "second")])).ids)
    assert text.endswith("The better answer (A or B):") and "tie" not in text
    assert answer_ids(tokenizer, classes=2) == answer_ids(tokenizer)[:2]


def test_a_system_prompt_stands_before_the_first_turn_and_is_kept_where_one_is_too_long(tokenizer):
    shape, texts = template(tokenizer), (["ask " * 300], ["yes " * 300], ["no " * 300])
    (rounds,) = shape.tokenize(battle(*texts, system="Be brief."))
    text = tokenizer.decode(shape.encode(rounds).ids)
    assert text.index("System: Be brief.") < text.index("User: ask")
    (rounds,) = shape.tokenize(battle(*texts, system=None))
    assert "System" not in tokenizer.decode(shape.encode(rounds).ids)


def test_a_budget_without_room_says_what_is_needed(tokenizer):
    with pytest.raises(UserError, match=r"max_tokens .* is 64"):
        template(tokenizer, max_tokens=64)


CHAT = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def with_chat(tokenizer, template):
    """A copy of a tokenizer, with another chat template."""
    copied = copy.deepcopy(tokenizer)
    copied.chat_template = template
    return copied


def test_a_battle_stands_in_the_chat_template_as_the_message_of_a_user(tiny_tokenizer):
    tokenizer = with_chat(tiny_tokenizer, CHAT)
    template = Template(tokenizer, 400, SHARES.model_copy(update={"chat": True}))
    (rounds,) = template.tokenize(battle(["Why? </s>"], ["Because."], ["No."]))
    ids = template.encode(rounds).ids
    text = tokenizer.decode(ids)
    assert text.startswith("<s><|user|>\n\nUser: Why?") and text.endswith("tie):</s><|assistant|>")
    assert ids.count(tokenizer.bos_token_id) == 1, "the template's own start, and no second one"
    assert ids.count(tokenizer.eos_token_id) == 1, "what a vote writes makes no special token"
    swapped = tokenizer.decode(template.encode(rounds, swapped=True).ids)
    assert "Answer A: No.\n\nAnswer B: Because." in swapped
    long = Template(tokenizer, 160, SHARES.model_copy(update={"chat": True}))
    (rounds,) = long.tokenize(battle(["why " * 300], ["yes " * 300], ["no " * 300]))
    cut = long.encode(rounds)
    assert len(cut) <= 160 and cut.dropped > 0
    assert tokenizer.decode(cut.ids).endswith("tie):</s><|assistant|>")


@pytest.mark.parametrize(
    ("template", "told"),
    [(None, "has no chat template"), ("{{ bos_token }}", "shows a user's message 0 times")],
)
def test_a_checkpoint_that_cannot_hold_a_chat_is_refused(tiny_tokenizer, template, told):
    with pytest.raises(UserError, match=told):
        Template(with_chat(tiny_tokenizer, template), 400, SHARES.model_copy(update={"chat": True}))
