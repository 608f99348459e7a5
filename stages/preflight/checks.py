"""The checks: each refuses a checkpoint for one cause, saying what was expected and what to do."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import transformers
from torch import nn
from transformers import CONFIG_MAPPING

from stages.config.errors import UserError
from stages.config.params import Params
from stages.model import stock
from stages.preflight.candidate import Candidate
from stages.preflight.memory import fits_into_memory

Check = Callable[[Candidate], None]
LANGUAGE_MODEL = re.compile(r"For(CausalLM|ConditionalGeneration|\w+Text2Text)$|LMHead")
ENCODER = re.compile(r"(Model|Encoder|Decoder|ForMaskedLM|ForPreTraining)$|LMHead")
PURPOSES = {
    "ForSequenceClassification": "a classifier or a reward model",
    "ForTokenClassification": "a classifier of tokens, or a reward model of steps",
    "ForImageClassification": "a classifier of images",
    "ForQuestionAnswering": "a model that marks answers in a text",
    "ForMultipleChoice": "a classifier of choices",
    "ForMaskedLM": "a model that fills in masked words",
    "RewardModel": "a reward model",
    "Model": "a base without a language-model head, as models that embed texts are",
}
# How names end that tell of quantisation.
QUANTISED = re.compile(
    r"([-_.](unsloth|bnb|gptq|awq|fp[48]|nvfp4|mlx|hqq|eetq|aqlm|autoround|int[48]|[3468]bit|"
    r"w\d+a\d+|\d+g|quantized|dynamic|block))+$",
    re.IGNORECASE,
)
# A factor lengthens these from what the model was made with; others count it in already.
LENGTHENED = {"linear", "dynamic", "yarn"}
RECURRENT = {"rwkv"}  # its context_length bounds nothing
# The tokens that a tokenizer itself may put beside a text; none is padded here by its own.
OWN_TOKENS = ("bos_token", "eos_token", "unk_token", "cls_token", "sep_token")


def known_to_transformers(found: Candidate) -> None:
    """Of a type that transformers has: code in a checkpoint's repository is never run."""
    own_code = "auto_map" in found.raw
    what = found.raw["model_type"]
    unknown = what not in CONFIG_MAPPING
    if not unknown and own_code and found.architecture:
        # Some write PhiMoE where transformers writes Phimoe.
        unknown = found.architecture.lower() not in map(str.lower, dir(transformers))
        what = found.architecture
    if unknown:
        code = ", and code of its own (auto_map) is never run" if own_code else ""
        raise UserError(
            f"{found.name} is of the type {what}, which transformers {transformers.__version__} "
            f"does not have{code}: take a checkpoint in transformers' own layout (some publishers "
            "mark it by -hf at the end of its name)"
        )


def unquantised(found: Candidate) -> None:
    """Stored in full. MXFP4 may be, since transformers de-quantises it as it loads."""
    parts = (found.raw, found.raw.get("text_config") or {})
    keys = ("quantization_config", "compression_config", "quantization")
    stored = next((part[key] for part in parts for key in keys if part.get(key)), None)
    if stored is None or stored.get("quant_method") == "mxfp4":
        return
    method = stored.get("quant_method", "it does not say how")
    plain = QUANTISED.sub("", found.name)
    raise UserError(
        f"{found.name} is stored quantised ({method}), but training quantises a checkpoint itself, "
        "from its full weights: take its publisher's unquantised checkpoint"
        + (f", perhaps {plain}" if plain != found.name else "")
    )


def serves_the_objective(found: Candidate) -> None:
    """A language model, or an encoder to classify with."""
    if found.kind == "encoder" and found.params.train.objective == "sft":
        raise UserError(
            f"{found.name} is an encoder ({found.config.model_type}), which writes no answers, but "
            "train.objective is sft: set it to classify, or take a language model"
        )


def has_its_first_head(found: Candidate) -> None:
    """A whole language model, or an encoder: no classifier, no reward model, no bare base."""
    name, encoder = found.architecture, found.kind == "encoder"
    if name is None or (ENCODER if encoder else LANGUAGE_MODEL).search(name):
        return
    if not encoder and name == stock.language_model(found.config)[0].__name__:
        return
    purpose = next((said for end, said in PURPOSES.items() if name.endswith(end)), "")
    wanted = "an encoder" if encoder else "a language model"
    raise UserError(
        f"{found.name} is a {name}{purpose and f', {purpose}'}: expected {wanted}; take the one "
        "that it was made from"
    )


def embeds_its_tokens(found: Candidate) -> None:
    """A row of the embedding for every token of a prompt.

    No special token is read out of a vote, so those that neither the tokenizer itself nor its chat
    template puts beside a text may lie beyond, as Gemma 3's <image_soft_token> does.
    """
    tokenizer, rows = found.tokenizer, found.text.vocab_size
    own = {getattr(tokenizer, name, None) for name in OWN_TOKENS}
    template = str(tokenizer.chat_template)
    never = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special and token.content not in own and token.content not in template
    }
    beyond = sorted(t for t, i in tokenizer.get_vocab().items() if i >= rows and t not in never)
    if beyond:
        raise UserError(
            f"{found.name} has {rows} rows in its embedding, but {len(beyond)} tokens beyond them "
            f"in its tokenizer, such as {beyond[0]}: take the tokenizer that the model was trained "
            "with, or enlarge the embedding (resize_token_embeddings) and save both in a folder"
        )


def reaches_as_far(found: Candidate) -> None:
    """Positions for the longest prompt."""
    most, wanted = positions(found), found.params.budget.max_tokens
    if most is not None and wanted > most:
        raise UserError(
            f"{found.name} was made for at most {most} tokens, but "
            f"scales.{found.params.scale}.max_tokens is {wanted}: lower it to {most}, or take a "
            "checkpoint with a longer context"
        )


def positions(found: Candidate) -> int | None:
    """The most tokens that a model was made for; None where nothing bounds them."""
    text = found.text
    most = getattr(text, "max_position_embeddings", None)
    relative = getattr(text, "alibi", False) or not getattr(text, "position_biased_input", True)
    if not isinstance(most, int) or most <= 0 or relative or text.model_type in RECURRENT:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") in LENGTHENED:
        first = rope.get("original_max_position_embeddings") or most
        most = max(most, int(first * rope["factor"]))
    for name, module in found.model.named_modules():  # RoBERTa counts on from its padding
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            most = min(most, module.num_embeddings - unused)
    return most


CHECKS: tuple[Check, ...] = (
    known_to_transformers,
    unquantised,
    serves_the_objective,
    has_its_first_head,
    embeds_its_tokens,
    reaches_as_far,
    fits_into_memory,
)


def check(folder: Path, name: str, params: Params, checks: Sequence[Check] = CHECKS) -> None:
    """Refuse a checkpoint that cannot serve, by its small files alone.

    Args:
        folder: with config.json and the tokenizer's files; weights are not looked at.
        name: what the checkpoint is called in messages.
        checks: those that are made.

    Raises:
        UserError: what was expected, what was found, and what to do.
    """
    found = Candidate(folder, name, params)
    for each in checks:
        try:
            each(found)
        except UserError:
            raise
        except Exception as error:  # whatever transformers raises of what it does not take
            reason = str(error).strip().partition("\n")[0][:200] or "it gives no reason"
            raise UserError(
                f"{name} cannot become a backbone with transformers {transformers.__version__} "
                f"({type(error).__name__}: {reason}): install what it asks for, if anything, or "
                "take another checkpoint"
            ) from error
