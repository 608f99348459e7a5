"""Whether a checkpoint holds the whole of its model, and nothing else."""

from collections.abc import Mapping
from pathlib import Path

from bitsandbytes.nn import Linear4bit
from transformers import PreTrainedModel

from stages.config.errors import UserError
from stages.model.families import OTHER_SENSES, POOLER
from stages.model.kinds import reads_both_ways


def check_report(
    report: Mapping[str, set], weights: Path, model: PreTrainedModel, objective: str
) -> None:
    """Refuse a checkpoint that lacks tensors, has too many, or has them in other shapes.

    transformers fills what is missing with random numbers, and says so only in its log.

    Args:
        report: what `from_pretrained` gives as loading info.

    Raises:
        UserError: naming the tensors.
    """
    unread = _head_names(model) if objective != "sft" else set()
    problems = {
        "lacks": sorted(
            key for key in set(report["missing_keys"]) - unread if not POOLER.search(key)
        ),
        "has beside the model's": sorted(
            key
            for key in report["unexpected_keys"]
            if not OTHER_SENSES.search(key) and not _of_a_head(key, model)
        ),
        "has in another shape": sorted(
            [*(str(key[0]) for key in report["mismatched_keys"]), *_misshapen(model)]
        ),
    }
    told = [f"{what} {_some(names)}" for what, names in problems.items() if names]
    if told or report["error_msgs"]:
        raise UserError(
            f"{weights} is not the whole of a {type(model).__name__}, which its config.json names: "
            f"it {'; it '.join([*told, *report['error_msgs']])}. Training would go on from random "
            "numbers: take the checkpoint from its publisher again, or another one"
        )


def _of_a_head(key: str, model: PreTrainedModel) -> bool:
    """Whether a tensor belongs to what its publisher put on an encoder, to fill in words."""
    own = {model.base_model_prefix, *(name for name, _ in model.named_children())}
    return reads_both_ways(model) and key.split(".")[0] not in own


def _head_names(model: PreTrainedModel) -> set[str]:
    """The parameters of the language-model head, which `classify` does not use."""
    head = model.get_output_embeddings()
    if head is None:
        return set()
    names = (name for name, module in model.named_modules() if module is head)
    return {f"{name}.{own}" for name in names for own, _ in head.named_parameters()}


def _misshapen(model: PreTrainedModel) -> list[str]:
    """Quantised matrices of other sizes than their module's, which transformers does not report."""
    states = {
        name: (module, getattr(module.weight, "quant_state", None))
        for name, module in model.named_modules()
        if isinstance(module, Linear4bit)
    }
    return [
        f"{name}.weight"
        for name, (module, state) in states.items()
        if state and tuple(state.shape) != (module.out_features, module.in_features)
    ]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
