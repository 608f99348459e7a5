"""Gates on the model as it stands: what is frozen, trained and stored how. No pass is needed."""

import math

from peft import PeftModel

from stages.model.attention import FLASH4, FLEX, PACKED, soft_capped
from stages.model.head import adapter_parameters, head, head_parameters
from stages.model.passes import Compute
from stages.model.stock import quantised_share
from stages.training.gates.gate import Finding, Phase

BUILT = Phase()  # on (model, compute, share of weights to be quantised), before the first step
TRAINED = Phase()  # on the model, after the last


@BUILT.gate(
    "head",
    "the head is frozen, quantised or in half precision",
    "the head is not in modules_to_save, or the adapter's task type is another",
    "the head was quantised, or cast to half precision, with the base",
)
def head_trained(model: PeftModel, compute: Compute, quantised: float) -> Finding:
    """The head is float32 and trained; a language-model head only has to be float."""
    weight = head(model).weight
    classify = compute.objective.answers is None
    good = weight.dtype.is_floating_point
    if classify:
        good = "float32" in str(weight.dtype) and weight.requires_grad
    found = f"{weight.dtype}, {'trained' if weight.requires_grad else 'frozen'}"
    return Finding(good, found, "torch.float32, trained" if classify else "a float head")


@BUILT.gate(
    "answer_rows",
    "the language-model head has no weights for an answer's token",
    "the checkpoint's head was cut, or enlarged for new tokens and not trained since: "
    "`-S train.objective=reward` needs no such token",
)
def answer_rows(model: PeftModel, compute: Compute, quantised: float) -> Finding:
    """With `sft`, no answer's row of the head is all zeros: its logit could never change."""
    answers = compute.objective.answers or ()
    rows = head(model).weight.detach()[list(answers)].float()
    empty = int((rows.norm(dim=1) == 0).sum())
    return Finding(empty == 0, f"{empty} of {len(answers)} tokens without weights", "none")


@BUILT.gate(
    "base_frozen",
    "a parameter of the base is trained",
    "a parameter of the base was unfrozen after the adapter was added",
)
def base_frozen(model: PeftModel, compute: Compute, quantised: float) -> Finding:
    """Nothing is trained but adapter and head."""
    trained = adapter_parameters(model) | head_parameters(model)
    known = {id(p) for p in trained.values()}
    loose = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in known]
    return Finding(not loose, f"{len(loose)} trained base parameters", "none")


@BUILT.gate(
    "adapter_dtype",
    "the adapter is not float32, so small updates round to nothing",
    "the adapter was cast to half precision; train.dtype is the base's alone",
)
def adapter_dtype(model: PeftModel, compute: Compute, quantised: float) -> Finding:
    """The adapter is float32."""
    half = sorted({str(p.dtype) for p in adapter_parameters(model).values()} - {"torch.float32"})
    return Finding(not half, ", ".join(half) or "torch.float32", "torch.float32")


@BUILT.gate(
    "base_quantised",
    "less of the base is quantised than its entry in params.yaml promises, or some though none is",
    "the quantisation was not applied: see train.quantization and stages/model/stock.py",
    "experts or other matrices are stored in a way that is not known: lower `quantised` of the "
    "backbone's entry, and take a GPU with the memory for that",
)
def base_quantised(model: PeftModel, compute: Compute, quantised: float) -> Finding:
    """As much of the weights in the layers' matrices is quantised as was promised."""
    share = quantised_share(model)
    passed = share >= quantised if quantised else share == 0
    expected = f"at least {quantised:.1%}" if quantised else "none"
    return Finding(passed, f"{share:.1%} of the layers' weights quantised", expected)


@BUILT.gate(
    "soft_capping",
    "the attention kernel leaves out the architecture's soft-capping",
    "SDPA drops it silently: use train.attention auto, eager or flex_attention",
)
def soft_capping(model: PeftModel, compute: Compute, quantised: float) -> Finding:
    """An architecture that caps its attention logits runs on a kernel that does so."""
    kernel = model.config._attn_implementation
    capped = soft_capped(model.config)
    passed = not capped or kernel in (PACKED, FLEX, FLASH4, "eager", "flex_attention")
    return Finding(passed, kernel, f"{PACKED}, eager or flex_attention" if capped else "any")


@TRAINED.gate(
    "adapter_moved",
    "training left the adapter where it was",
    "the learning rate is zero, or every update rounded to nothing",
    "the optimiser holds other parameters than the model's",
)
def adapter_moved(model: PeftModel) -> Finding:
    """After training no adapter module is where it started: its B matrix is zero no more."""
    norms = [p.norm().item() for n, p in adapter_parameters(model).items() if "lora_B" in n]
    still = sum(norm == 0 or not math.isfinite(norm) for norm in norms)
    return Finding(still == 0, f"{still} of {len(norms)} unmoved", "none")
