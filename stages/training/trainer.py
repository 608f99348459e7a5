"""Training on packed rows: transformers' Trainer with its step, order and validation replaced."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from scipy.special import log_softmax, softmax
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from stages.config.errors import UserError, out_of_memory
from stages.config.params import Params
from stages.devices import processes
from stages.model.examples import Examples
from stages.model.head import adapter_parameters, head_parameters
from stages.model.layers import recompute_all
from stages.model.packing import Step, plan, share
from stages.model.passes import Compute, accumulate, class_logits
from stages.model.sharding import sharded
from stages.training.checkpoints import saving
from stages.training.gates.passes import LOSS
from stages.training.selection import Selection, inner_losses
from stages.votes.labels import mirrored

IDLE = [0]  # the tokens of a pass that counts nothing


@dataclass(frozen=True)
class Batch:
    """A process's share of a step's examples: their tokens, targets and offsets as shown.

    Attributes:
        weights: the share of each one's loss in the mean over the whole step.
    """

    ids: Sequence[Sequence[int]]
    targets: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray


class PackedTrainer(Trainer):
    """One pass over a plan of steps; each step's examples are packed into rows of a token budget.

    The Trainer keeps what it does well: schedule, clipping, checkpoints, resuming, several devices,
    progress. To it the plan is one epoch, so that a resumed run finds its place exactly. It calls
    what is replaced here in this order:

    1. `get_train_dataloader`, once: the plan.
    2. For each step `get_batch_samples`, which takes it from the plan; `training_step`, which adds
       up its gradient; `floating_point_ops`. The Trainer clips and takes the step.
    3. Where they are due, `log`, `evaluate` and `_save_checkpoint`. Before any of them the callback
       `_Steps` asks whether the loss is still a number.
    """

    def __init__(
        self,
        model: PeftModel,
        examples: Examples,
        validation: Examples,
        compute: Compute,
        params: Params,
        folder: Path,
        selection: Selection | None = None,
    ) -> None:
        budget = params.budget
        self.examples, self.validation, self.compute = examples, validation, compute
        self.selection = selection
        self.steps = plan(
            len(examples), budget.batch_size, budget.epochs, params.train.swap, params.train.seed
        )
        self.steps_per_epoch = len(self.steps) // budget.epochs
        self.seconds, self.tokens = 0.0, 0
        self.since: float | None = None  # when the steps began that are not in the seconds yet
        self.last_loss = torch.zeros(()), 0
        self.trained = [p for p in model.parameters() if p.requires_grad]
        processes.broadcast(self.trained)
        model._is_accelerate_prepared = True  # keeps Accelerate from wrapping it: see processes
        super().__init__(
            model=model,
            args=_arguments(params, folder, len(self.steps), self.steps_per_epoch, compute.device),
            eval_dataset=validation,
            optimizers=(_optimizer(model, params), None),
            callbacks=[_Steps(self)],
        )
        if compute.dtype == torch.float16:  # whose gradients would vanish unless scaled up
            self.accelerator.scaler = torch.amp.GradScaler(compute.device.type)

    def get_train_dataloader(self) -> DataLoader:
        """Every process reads the whole plan and takes its share of each step."""
        return DataLoader(self.steps, batch_size=1, collate_fn=lambda steps: steps[0])

    def get_batch_samples(self, steps: Iterator[Step], *_: object) -> tuple[list[Step], None]:
        """One item of the loader is one optimiser step."""
        return [next(steps)], None

    def training_step(self, model: nn.Module, step: Step, *_: object) -> Tensor:
        """Accumulate the gradient of one global batch; returns its mean loss."""
        if self.since is None:
            self.since = time.perf_counter()
        model.train()
        shown = list(zip(step.examples, step.swapped, strict=True))
        encoded = [self.examples.encode(i, swapped) for i, swapped in shown]
        lengths = list(map(len, encoded))
        mine = share(lengths, processes.rank(), processes.count())
        weights = self.examples.weights[list(step.examples)]
        batch = Batch(
            [text for k in mine for text in encoded[k].texts],
            self._stacked([self.examples.target(*shown[k]) for k in mine]),
            (weights / weights.sum())[mine],
            self._stacked([self.examples.offset(*shown[k]) for k in mine]),
        )
        idle = _idle(self.model, batch.ids, self.compute)
        loss = self._accumulate_in_memory(model, batch)
        for _pass in range(idle):
            self._accumulate(model, self._nothing())
        processes.add_up(loss, self.trained)
        if self.accelerator.scaler:
            self.accelerator.scaler.unscale_(self.optimizer.optimizer)
        self.last_loss = loss, self.state.global_step + 1
        self.tokens += sum(lengths)
        return loss

    def floating_point_ops(self, inputs: Step) -> int:
        """Not estimated: transformers counts padding, and there is none."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with the seconds and tokens so far, which resuming continues."""
        cost = {"train_seconds": self.seconds, "train_tokens": self.tokens}
        super().log({**logs, **cost}, start_time)

    def evaluate(self, *_: object, **__: object) -> dict[str, float]:
        """Validation loss, answers in the file's order, in nats an example.

        The last epoch's is left to the out-of-fold predictions, which measure the same; unless the
        best epoch is wanted, whose inner loss is measured beside it. The Trainer asks for the last
        epoch's twice: after its last step, and after the plan.
        """
        step = self.state.global_step
        measured = not self.selection or step in inner_losses(self.state.log_history)
        if step == self.state.max_steps and measured:
            return {}
        losses = {"eval_loss": log_loss(self.model, self.validation, self.compute)}
        if self.selection:
            losses["inner_loss"] = self._select(self.selection)
        self.log(losses)
        return losses

    def _select(self, selection: Selection) -> float:
        """The inner loss now; the adapter is kept if none was lower."""
        logits = both_orders(self.model, selection.inner, self.compute)
        loss = loss_of(mean_of_orders(logits), selection.inner)
        if loss < min(inner_losses(self.state.log_history).values(), default=np.inf):
            selection.keep(self.state.global_step, self.model)
        return loss

    def restore_best(self) -> dict | None:
        """Go back to the best epoch; returns which it is and why, or None if the last is wanted."""
        if not self.selection:
            return None
        losses = inner_losses(self.state.log_history)
        step = min(losses, key=losses.__getitem__)  # the first of equal ones
        self.selection.restore(step, self.model)
        epoch, shown = step // self.steps_per_epoch, list(losses.values())
        told = ", ".join(f"{loss:.4f}" for loss in shown)
        print(f"epoch {epoch} is kept: the inner losses by epoch are {told}")
        return {"epoch": epoch, "votes": len(self.selection.inner), "inner_losses": shown}

    def _save_checkpoint(self, *args: object) -> None:
        try:
            with saving(self.state.global_step, Path(self.args.output_dir)):
                super()._save_checkpoint(*args)
        except UserError as error:
            if self.state.global_step < self.state.max_steps:
                raise
            print(
                f"training has ended without its last checkpoint, going on to its results: {error}"
            )

    def require_finite_loss(self) -> None:
        """Stop if the last step's loss is no number; asked seldom, to keep no GPU waiting."""
        loss, step = self.last_loss
        LOSS.require(loss.item(), step)

    def count_seconds(self) -> None:
        """Count the time since the last count, without what was logged, measured and saved then.

        To be called once the device has done what it was given: the host runs ahead of a GPU.
        """
        if self.since is not None:
            self.seconds, self.since = self.seconds + time.perf_counter() - self.since, None

    def _accumulate_in_memory(self, model: nn.Module, batch: Batch) -> Tensor:
        """As `_accumulate`; where memory runs out, again unrecorded, then with all recomputed."""
        while True:
            try:
                return self._accumulate(model, batch)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
            step = self.state.global_step + 1
            recorder = self.compute.recorder
            if recorder and recorder.stop():
                print(f"out of memory at step {step}: from here on passes are not recorded")
            elif self.compute.packed and not sharded(self.model) and recompute_all(self.model):
                print(f"out of memory at step {step}: from here on every layer is recomputed")
            else:
                raise UserError(
                    f"out of memory at step {step} with every layer recomputed: lower the scale's "
                    f"token_budget, here {self.compute.token_budget}, or take a GPU with more "
                    "memory; the same command goes on from the last checkpoint"
                )
            model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()

    def _accumulate(self, model: nn.Module, batch: Batch) -> Tensor:
        backward = self.accelerator.backward
        return accumulate(
            model, batch.ids, batch.targets, self.compute, backward, batch.weights, batch.offsets
        )

    def _stacked(self, rows: list[np.ndarray]) -> np.ndarray:
        return np.array(rows, dtype=np.float32).reshape(-1, self.examples.classes)

    def _nothing(self) -> Batch:
        """What a pass that counts nothing computes."""
        zeros = np.zeros((1, self.examples.classes), dtype=np.float32)
        return Batch([IDLE] * self.compute.objective.texts, zeros, np.zeros(1), zeros)


class _Steps(TrainerCallback):
    """Lets a resumed run go on counting its cost, and no broken one be saved."""

    def __init__(self, trainer: PackedTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: object, state: TrainerState, *_: object, **__: object) -> None:
        if state.log_history:
            last = state.log_history[-1]
            self.trainer.seconds, self.trainer.tokens = last["train_seconds"], last["train_tokens"]

    def on_step_end(
        self, args: object, state: TrainerState, control: TrainerControl, **__: object
    ) -> None:
        ends = control.should_training_stop
        if control.should_log or control.should_evaluate or control.should_save or ends:
            self.trainer.require_finite_loss()
            self.trainer.count_seconds()


def predict_together(
    model: PeftModel, examples: Examples, compute: Compute, swapped: bool
) -> np.ndarray:
    """Logits of every example with its answers shown in one order: (examples, classes), float32.

    The processes share the examples, and each gets all logits. Columns are always the file's own
    A, B and tie, also when they were shown exchanged; offsets are added.
    """
    model.eval()
    encoded = [examples.encode(i, swapped) for i in range(len(examples))]
    mine = share(list(map(len, encoded)), processes.rank(), processes.count())
    part = [text for i in mine for text in encoded[i].texts]
    progress = ("predict B/A" if swapped else "predict A/B") if processes.rank() == 0 else None
    idle = _idle(model, part, compute)
    found = class_logits(model, part, compute, progress)
    for _ in range(idle):
        class_logits(model, [IDLE] * compute.objective.texts, compute)
    logits = np.empty((len(examples), examples.classes), dtype=np.float32)
    for index, values in processes.gather((mine, found)):
        logits[index] = values.numpy()
    return (mirrored(logits) if swapped else logits) + examples.offsets


def both_orders(model: PeftModel, examples: Examples, compute: Compute) -> dict[str, np.ndarray]:
    """Logits with the answers as stored, and exchanged: the same where each is read by itself."""
    ab = predict_together(model, examples, compute, swapped=False)
    if compute.objective.alone:
        return {"ab": ab, "ba": ab}
    return {"ab": ab, "ba": predict_together(model, examples, compute, swapped=True)}


def mean_of_orders(logits: dict[str, np.ndarray]) -> np.ndarray:
    """Logs of the mean of both orders' probabilities: (examples, classes)."""
    return np.log((softmax(logits["ab"], axis=1) + softmax(logits["ba"], axis=1)) / 2)


def _idle(model: PeftModel, ids: Sequence[Sequence[int]], compute: Compute) -> int:
    """How many passes to make beside one's own rows: a base in shards asks all for as many."""
    if not sharded(model):
        return 0
    rows = len(compute.rows(ids))
    return max(processes.gather(rows)) - rows


def log_loss(model: PeftModel, examples: Examples, compute: Compute) -> float:
    """Mean log loss over examples in the file's order."""
    return loss_of(predict_together(model, examples, compute, swapped=False), examples)


def loss_of(logits: np.ndarray, examples: Examples) -> float:
    """Mean log loss that logits (examples, classes) have."""
    losses = -(log_softmax(logits, axis=1) * examples.targets).sum(axis=1)
    return float(np.average(losses, weights=examples.weights))


def _optimizer(model: PeftModel, params: Params) -> torch.optim.AdamW:
    groups = [
        {"params": list(adapter_parameters(model).values()), "lr": params.adapter_lr},
        {"params": list(head_parameters(model).values()), "lr": params.head_lr},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        weight_decay=params.train.optimizer.weight_decay,
        fused=next(model.parameters()).device.type == "cuda",
    )


def _arguments(
    params: Params, folder: Path, steps: int, steps_per_epoch: int, device: torch.device
) -> TrainingArguments:
    train = params.train
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=params.budget.batch_size,
        lr_scheduler_type=train.optimizer.schedule,
        warmup_steps=round(train.optimizer.warmup * steps),
        max_grad_norm=train.optimizer.max_grad_norm,
        eval_strategy="steps",
        eval_steps=steps_per_epoch,
        logging_first_step=True,
        logging_steps=train.log_steps,
        logging_nan_inf_filter=False,
        save_steps=train.save_steps,
        save_total_limit=2,
        report_to="none",
        remove_unused_columns=False,
        seed=train.seed,
        use_cpu=device.type == "cpu",
    )
