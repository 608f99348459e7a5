"""Gates: checks that a run can learn, before its first step, and that it did.

Each is named after what it guards; a failed one stops the run with its value and the likely causes.
They act on the real model with a few real votes, through the very functions that train and predict,
so that they see what training will see.
"""

import contextlib
import itertools
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import load_peft_weights, set_peft_model_state_dict
from torch import Tensor, nn

from stages.config.errors import UserError
from stages.model.attention import FLEX, PACKED, soft_capped
from stages.model.build import adapter_parameters, head, head_parameters
from stages.model.examples import Examples
from stages.model.layers import compile_layers
from stages.model.passes import Compute, accumulate, class_logits
from stages.model.prompts import Round, leading_special
from stages.training.checkpoints import writing
from stages.votes.labels import MIRRORED

CAUSES = {
    "special_tokens": [
        "the tokenizer drops its start token, or the template and the tokenizer both add one",
        "a vote's text was allowed to make a special token (split_special_tokens is off)",
    ],
    "labels": [
        "labels were joined to the battles by place and not by id, or permuted",
        "the examples are of other battles than this fold's",
    ],
    "held_out": ["the examples of another fold were taken", "the frames of the fold overlap"],
    "swap": ["answers A and B are exchanged without their labels, or labels without the answers"],
    "head": [
        "the head is not in modules_to_save, or the adapter's task type is another",
        "the head was quantised, or cast to half precision, with the base",
    ],
    "base_frozen": ["a parameter of the base was unfrozen after the adapter was added"],
    "base_quantised": ["the quantisation was not applied: see train.quantization"],
    "adapter_dtype": ["the adapter was cast to half precision: its updates round to nothing"],
    "soft_capping": [
        "the attention kernel drops the architecture's soft-capping (SDPA does so silently): "
        "use train.attention auto, eager or flex_attention"
    ],
    "first_loss": [
        "the head starts at random values instead of zero",
        "labels or logits are in another order or number than A, B, tie",
    ],
    "finite": [
        "float16 overflowed: use bfloat16, or float32",
        "the checkpoint's weights are broken: delete its folder under .state/weights",
    ],
    "pooled_token": [
        "a padding token is read: pad_token_id is unset, or padding is on the other side",
        "the pad token is also the end-of-turn token, and the first one found is inside the text",
        "attention leaks between the examples of a packed row",
    ],
    "prompt_read": ["truncation removed the prompt", "the token read stands before the prompt"],
    "answer_a_read": ["truncation removed answer A", "the token read stands before answer A"],
    "answer_b_read": ["truncation removed answer B", "the token read stands before answer B"],
    "gradients": [
        "gradient checkpointing without input gradients: call enable_input_require_grads",
        "the loss is not finite in half precision",
        "a module of the adapter is not part of the forward pass",
    ],
    "loss_scale": [
        "the loss is divided by the rows, or the accumulation steps, and not by the examples",
    ],
    "reload": ["the head is not saved with the adapter", "the adapter's file is incomplete"],
    "training_loss": [
        "float16 overflowed: use bfloat16, or float32",
        "the learning rate is too high: lower lr and head_lr of the backbone",
    ],
    "compiled": ["a fault of PyTorch's compiler for this GPU: set train.compile to false"],
    "recorded": ["a fault of CUDA graphs for this backbone: set train.cuda_graphs to false"],
    "adapter_moved": [
        "the learning rate is zero, or every update rounded to nothing",
        "the optimiser holds other parameters than the model's",
    ],
}
SAME = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.03}  # relative, by rounding
MOVED = 1e-3  # relative; far above float32 rounding, far below what reading another text gives


@dataclass(frozen=True)
class Gate:
    """The outcome of one check."""

    name: str
    passed: bool
    value: str
    expected: str


class GateFailed(UserError):
    """Gates that stop the run."""

    def __init__(self, failed: Sequence[Gate]) -> None:
        self.gates = list(failed)
        lines = ["a gate failed, so that no result of this run would mean anything"]
        for gate in failed:
            lines.append(f"  {gate.name}: found {gate.value}, expected {gate.expected}")
            lines += [f"    likely cause: {cause}" for cause in CAUSES[gate.name]]
        super().__init__("\n".join(lines))


def check_votes(training: Examples, held_out: Examples, truth: Mapping[str, int]) -> list[Gate]:
    """Run the gates that need no model, on all examples.

    Args:
        truth: the label of each battle of the fold by id.

    Raises:
        GateFailed: naming every gate that failed.
    """
    return require([labels(training, truth), no_overlap(training, held_out)])


def check_before(model: PeftModel, examples: Examples, compute: Compute) -> list[Gate]:
    """Run every gate on the model that comes before the first step.

    Args:
        examples: a few real ones, some of usual length and the longest.

    Raises:
        GateFailed: naming every gate that failed; first those that need no pass of the model.
    """
    model.eval()
    by_sight = require(
        [
            special_tokens(examples),
            swap(examples),
            *parameters(model, compute),
            soft_capping(model),
        ]
    )
    by_trial = [first_loss(model, examples, compute)]
    with probing(model):
        logits = _logits(model, examples, compute)
        by_trial += [
            finite(logits),
            pooled_token(model, examples, compute, logits),
            *(part_read(model, examples, compute, logits, part) for part in ("prompt", "a", "b")),
            reload(model, examples, compute, logits),
            loss_scale(model, examples, compute),
            gradients(model, examples, compute),
        ]
    return by_sight + require(by_trial)


def check_compiled(model: PeftModel, examples: Examples, compute: Compute) -> list[Gate]:
    """Compile the model's layers, and run the gate that they compute what they did before.

    Raises:
        GateFailed: it does not.
    """
    with probing(model):
        plain = _logits(model, examples, compute), _training_gradient(model, examples, compute)
        compile_layers(model)
        found = _logits(model, examples, compute), _training_gradient(model, examples, compute)
        difference = max(map(_relative, found, plain))
    return require([_same_pass("compiled", difference, compute)])


def check_recorded(
    model: PeftModel,
    examples: Examples,
    compute: Compute,
    recorded: Compute,
    full_row: Sequence[Sequence[int]],
) -> list[Gate]:
    """Record passes, and run the gate that they compute what plain ones do.

    Args:
        full_row: the row that needs the most memory, recorded first so that all others fit into
            it. Plain passes come before: once it is taken there may be no room for theirs.

    Raises:
        GateFailed: they do not.
    """
    turned = examples.subset(range(len(examples))[::-1])
    with probing(model):
        plain = _logits(model, examples, compute), _training_gradient(model, examples, compute)
        longest = _record(model, full_row, _ids(examples), recorded)
        for shown in (examples, turned, examples):  # plain, recorded, replayed
            found = _logits(model, shown, recorded), _training_gradient(model, shown, recorded)
        difference = max(longest, *map(_relative, found, plain))
    return require([_same_pass("recorded", difference, compute)])


def _record(
    model: PeftModel, row: Sequence[Sequence[int]], texts: list[list[int]], recorded: Compute
) -> float:
    """Record a pass over a row in training mode; returns how far a replay is off the plain pass.

    Args:
        row: only its lengths count.
        texts: token ids that are put there; backwards when recorded, so that a replay that reads
            what was there then shows.
    """
    model.train()
    filled, labels = _filled([len(ids) for ids in row], texts), [0] * len(row)
    plain = _gradient(model, filled, labels, recorded)
    _gradient(model, [ids[::-1] for ids in filled], labels, recorded)
    replayed = _gradient(model, filled, labels, recorded)
    model.eval()
    model.zero_grad(set_to_none=True)
    return _relative(replayed, plain)


def _filled(lengths: Sequence[int], texts: list[list[int]]) -> list[list[int]]:
    """Token ids of these lengths, from the texts over and over."""
    tokens = itertools.cycle(itertools.chain.from_iterable(texts))
    return [list(itertools.islice(tokens, n)) for n in lengths]


def _same_pass(name: str, difference: float, compute: Compute) -> Gate:
    limit = 3 * SAME[compute.dtype]
    return Gate(name, difference < limit, f"{difference:.2g}", f"below {limit:g}")


def require(gates: list[Gate]) -> list[Gate]:
    """Return the gates, or raise GateFailed for those that failed."""
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        raise GateFailed(failed)
    return gates


def require_finite(name: str, loss: float, step: int) -> None:
    """Stop a run whose loss is no number any more."""
    if not math.isfinite(loss):
        raise GateFailed([Gate(name, False, f"{loss} at step {step}", "a finite number")])


def special_tokens(examples: Examples) -> Gate:
    """The tokenizer's own start token once, and no special token out of a vote's text."""
    tokenizer = examples.template.tokenizer
    start = leading_special(tokenizer)
    special = set(tokenizer.all_special_ids)
    wrong = 0
    for i in range(len(examples)):
        ids = examples.encode(i).ids
        inside = sum(token in special for token in ids[len(start) :])
        wrong += ids[: len(start)] != start or inside > 0
    return Gate("special_tokens", wrong == 0, f"{wrong} examples", f"none off {start} at the start")


def labels(examples: Examples, truth: Mapping[str, int]) -> Gate:
    """Every label is the one its battle's id has in the votes."""
    wrong = sum(examples.label(i) != truth.get(id_) for i, id_ in enumerate(examples.ids))
    return Gate("labels", wrong == 0, f"{wrong} labels off the votes", "none")


def no_overlap(training: Examples, held_out: Examples) -> Gate:
    """No battle is both trained on and predicted."""
    both = len(set(training.ids) & set(held_out.ids))
    return Gate("held_out", both == 0, f"{both} battles to predict among those to train on", "none")


def swap(examples: Examples) -> Gate:
    """Exchanging A and B exchanges the answers read and permutes the label."""
    exchanged = replace(
        examples, rounds=[[Round(r.prompt, r.b, r.a) for r in rounds] for rounds in examples.rounds]
    )
    wrong = sum(
        examples.encode(i, swapped=True).ids != exchanged.encode(i).ids
        or examples.label(i, swapped=True) != MIRRORED[examples.label(i)]
        for i in range(len(examples))
    )
    return Gate("swap", wrong == 0, f"{wrong} examples that do not mirror", "none")


def parameters(model: PeftModel, compute: Compute) -> list[Gate]:
    """The head is float and trained, the base frozen and quantised, the adapter float32."""
    trained = adapter_parameters(model) | head_parameters(model)
    frozen = {id(p) for p in trained.values()}
    loose = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in frozen]
    half = sorted({str(p.dtype) for p in adapter_parameters(model).values()} - {"torch.float32"})
    weight = head(model).weight
    classify = compute.objective.answers is None
    head_good = weight.dtype == torch.float32 and weight.requires_grad if classify else True
    quantised = [m for m in model.modules() if type(m).__name__ == "Linear4bit"]
    return [
        Gate(
            "head",
            head_good and weight.dtype.is_floating_point,
            f"{weight.dtype}, {'trained' if weight.requires_grad else 'frozen'}",
            "torch.float32, trained" if classify else "a float head",
        ),
        Gate("base_frozen", not loose, f"{len(loose)} trained base parameters", "none"),
        Gate("adapter_dtype", not half, ", ".join(half) or "torch.float32", "torch.float32"),
        Gate(
            "base_quantised",
            bool(quantised) == bool(getattr(model.config, "quantization_config", None)),
            f"{len(quantised)} quantised layers",
            "as train.quantization says",
        ),
    ]


def soft_capping(model: PeftModel) -> Gate:
    """An architecture that caps its attention logits runs on a kernel that does so."""
    kernel = model.config._attn_implementation
    capped = soft_capped(model.config)
    passed = not capped or kernel in (PACKED, FLEX, "eager", "flex_attention")
    expected = f"{PACKED}, eager or flex_attention" if capped else "any"
    return Gate("soft_capping", passed, kernel, expected)


def first_loss(model: PeftModel, examples: Examples, compute: Compute) -> Gate:
    """A zero head knows nothing: ln 3. A language-model head is not confident of something else."""
    loss = _mean_loss(model, examples, compute)
    if compute.objective.answers is None:
        passed, expected = abs(loss - math.log(3)) < 1e-3, f"ln 3 = {math.log(3):.4f}"
    else:
        limit = 2 * math.log(head(model).weight.shape[0])
        passed, expected = loss < limit, f"below 2 ln(vocabulary) = {limit:.2f}"
    return Gate("first_loss", passed, f"{loss:.4f}", expected)


def finite(logits: Tensor) -> Gate:
    """No overflow in the forward pass."""
    bad = int((~torch.isfinite(logits)).any(dim=1).sum())
    return Gate("finite", bad == 0, f"{bad} examples with infinite or undefined logits", "none")


def pooled_token(model: PeftModel, examples: Examples, compute: Compute, logits: Tensor) -> Gate:
    """In a packed row each example gives what its own last token gives when it is alone."""
    alone = torch.stack([_alone(model, ids, compute) for ids in _ids(examples)])
    difference = _relative(logits, alone)
    limit = SAME[compute.dtype]
    return Gate("pooled_token", difference < limit, f"{difference:.2g}", f"below {limit:g}")


def part_read(
    model: PeftModel, examples: Examples, compute: Compute, logits: Tensor, part: str
) -> Gate:
    """Another text in one part of a battle moves what the head reads."""
    name = "prompt_read" if part == "prompt" else f"answer_{part}_read"
    changed = [
        [replace(round_, **{part: [*getattr(round_, part)[::-1], 0]}) for round_ in rounds]
        for rounds in examples.rounds
    ]
    after = _logits(model, replace(examples, rounds=changed), compute)
    least = min(_relative(*pair) for pair in zip(after, logits, strict=True))
    return Gate(name, least > MOVED, f"{least:.2g}", f"above {MOVED:g}")


def loss_scale(model: PeftModel, examples: Examples, compute: Compute) -> Gate:
    """A batch gives the same gradient in one row as in a row for each example."""
    rows = replace(compute, token_budget=1), replace(compute, token_budget=10**9)
    apart, together = (_gradient(model, _ids(examples), examples.labels, c) for c in rows)
    difference = _relative(apart, together)
    limit = 3 * SAME[compute.dtype]
    return Gate("loss_scale", difference < limit, f"{difference:.2g}", f"below {limit:g}")


def reload(model: PeftModel, examples: Examples, compute: Compute, logits: Tensor) -> Gate:
    """What is saved, read back into a model whose adapter and head were lost, is the same model."""
    lost = _trained(model)
    if compute.objective.answers is None:
        lost += head(model).parameters()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), _kept(lost):
        with writing("the adapter, to be read back,", Path(folder)):
            model.save_pretrained(folder)
        for parameter in lost:
            parameter.zero_()
        set_peft_model_state_dict(model, load_peft_weights(folder, device="cpu"))
        after = _logits(model, examples, compute)
    difference = _relative(after, logits)
    return Gate("reload", difference < 1e-3, f"{difference:.2g}", "below 0.001")


def gradients(model: PeftModel, examples: Examples, compute: Compute) -> Gate:
    """Every module of the adapter, and the head, gets a finite gradient that is not zero."""
    model.train()
    _gradient(model, _ids(examples), examples.labels, compute)
    named = adapter_parameters(model) | head_parameters(model)
    bad = [n for n, p in named.items() if p.grad is None or not _sound(p.grad)]
    model.eval()
    model.zero_grad(set_to_none=True)
    value = f"{len(bad)} of {len(named)} without" + (f", first {bad[0]}" if bad else "")
    return Gate("gradients", bool(named) and not bad, value, "0 without a gradient")


def adapter_moved(model: PeftModel) -> Gate:
    """After training no adapter module is where it started: its B matrix is zero no more."""
    norms = [p.norm().item() for n, p in adapter_parameters(model).items() if "lora_B" in n]
    still = sum(norm == 0 or not math.isfinite(norm) for norm in norms)
    return Gate("adapter_moved", still == 0, f"{still} of {len(norms)} unmoved", "none")


@contextlib.contextmanager
def probing(model: PeftModel) -> Iterator[None]:
    """Small random weights in adapter and head: at their zero start nothing can be seen.

    Twice as large, they made some battles' gradients a matter of rounding (0.34 between bfloat16
    and float32, 0.03 with these; Gemma-3-270M).
    """
    generator = torch.Generator().manual_seed(0)
    with _kept(_trained(model)):
        for p in _trained(model):
            p.data.copy_(torch.randn(p.shape, generator=generator) * 0.01)
        yield
    model.zero_grad(set_to_none=True)


@contextlib.contextmanager
def _kept(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    saved = [p.detach().clone() for p in parameters]
    try:
        yield
    finally:
        for p, value in zip(parameters, saved, strict=True):
            p.data.copy_(value)


def _trained(model: PeftModel) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _ids(examples: Examples) -> list[list[int]]:
    return [examples.encode(i).ids for i in range(len(examples))]


def _logits(model: PeftModel, examples: Examples, compute: Compute) -> Tensor:
    return class_logits(model, _ids(examples), compute)


def _mean_loss(model: PeftModel, examples: Examples, compute: Compute) -> float:
    with torch.no_grad():
        return accumulate(
            model, _ids(examples), list(examples.labels), compute, lambda loss: None
        ).item()


def _alone(model: PeftModel, ids: Sequence[int], compute: Compute) -> Tensor:
    """The logits at the last token, by the backbone and the head themselves."""
    base = model.get_base_model()
    tokens = torch.tensor([ids], device=compute.device)
    with torch.no_grad():
        hidden = base.base_model(input_ids=tokens, use_cache=False).last_hidden_state[0, -1:]
        read = head(model)
        logits = nn.functional.linear(hidden.to(read.weight.dtype), read.weight, read.bias)
    cap = getattr(model.config, "final_logit_softcapping", None)
    if compute.objective.answers is not None and cap is not None:
        logits = torch.tanh(logits / cap) * cap
    return compute.objective.class_logits(logits)[0].float().cpu()


def _gradient(
    model: PeftModel, ids: Sequence[Sequence[int]], labels: Sequence[int], compute: Compute
) -> Tensor:
    model.zero_grad(set_to_none=True)
    accumulate(
        model, ids, labels, compute, lambda loss: loss.backward() if loss.requires_grad else None
    )
    # Not kept on a GPU, whose memory recordings may fill.
    grads = [p.grad.flatten().cpu() for p in _trained(model) if p.grad is not None]
    return torch.cat(grads) if grads else torch.zeros(1)


def _training_gradient(model: PeftModel, examples: Examples, compute: Compute) -> Tensor:
    """In training mode, as compiled code is made for it, but without dropout's chance."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    gradient = _gradient(model, _ids(examples), examples.labels, compute)
    model.eval()
    return gradient


def _sound(grad: Tensor) -> bool:
    return bool(torch.isfinite(grad).all()) and bool(grad.any())


def _relative(found: Tensor, reference: Tensor) -> float:
    """‖found − reference‖ / ‖reference‖; infinite where either is undefined."""
    if found.shape != reference.shape:
        return math.inf
    value = ((found - reference).norm() / reference.norm().clamp_min(1e-12)).item()
    return value if math.isfinite(value) else math.inf
