"""Time the paths in turns."""

import copy
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from bitsandbytes.nn import Linear4bit
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from bench.throughput.agreement import Outcome, in_float32, outcome
from bench.throughput.kernels import profiled
from bench.throughput.lengths import Batch
from bench.throughput.project import Project
from bench.throughput.stock import Stock
from stages.config.errors import UserError
from stages.config.params import Params
from stages.devices import processes
from stages.planning.random_weights import random_base

PATHS: dict[str, type[Stock] | type[Project]] = {"stock": Stock, "project": Project}
PHASES = ("training", "inference")
START = time.perf_counter()


@dataclass(frozen=True)
class Bench:
    """What is measured, and on what."""

    params: Params
    config: PreTrainedConfig
    batches: Sequence[Batch]
    device: torch.device
    dtype: torch.dtype
    rounds: int
    profile: bool


class Run:
    """A path with its optimiser."""

    def __init__(self, path: Stock | Project) -> None:
        self.path = path
        self.trained = [p for p in path.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-5)

    def training(self, batches: Sequence[Batch]) -> None:
        """An optimiser step for each batch."""
        self.path.model.train()
        for batch in batches:
            self.path.accumulate(batch)
            nn.utils.clip_grad_norm_(self.trained, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def inference(self, batches: Sequence[Batch]) -> None:
        """The logits of all examples at once, as out-of-fold predictions are computed."""
        self.path.model.eval()
        self.path.logits([ids for batch in batches for ids in batch.ids])

    def storages(self) -> dict[int, int]:
        """Bytes by address of the model's tensors and the optimiser's."""
        state = (t for values in self.optimizer.state.values() for t in values.values())
        tensors = (*self.path.model.parameters(), *self.path.model.buffers(), *state)
        kept = (tensor.untyped_storage() for tensor in tensors)
        return {storage.data_ptr(): storage.nbytes() for storage in kept}


def measure(names: Sequence[str], bench: Bench) -> tuple[dict[str, dict], dict[str, Outcome]]:
    """Load these paths side by side, sharing the quantised weights, and time them in turns.

    Returns:
        What was measured of each path, and its loss and gradients of one batch. A path that runs
        out of memory has `error` in place of measurements, and no outcome.

    Raises:
        UserError: several paths do not fit together.
    """
    runs: dict[str, Run] = {}
    try:
        runs |= load_paths(names, bench)
        outcomes = {name: outcome(run.path, bench.batches[0]) for name, run in runs.items()}
        say("loss and gradients of one batch computed")
        measured = {name: facts(run.path) for name, run in runs.items()}
        for phase in PHASES:
            for name, found in time_in_turns(runs, phase, bench).items():
                measured[name][phase] = found
        return measured, outcomes
    except torch.OutOfMemoryError as error:
        if len(names) > 1:
            raise UserError(
                "the GPU's memory does not hold both paths at once: add --only stock, then --only "
                "project, or --memory GIB, which measures one after the other"
            ) from None
        say(f"{names[0]}: {error}")
        return {names[0]: {"error": "out of memory"}}, {}
    finally:
        del runs
        gc.collect()
        torch.cuda.empty_cache()


def reference(bench: Bench) -> Outcome | None:
    """Loss and gradients of the first batch in float32; None if the paths themselves compute so."""
    if bench.dtype == torch.float32:
        return None
    train = bench.params.train.model_copy(update={"dtype": "float32"})
    params = bench.params.model_copy(update={"train": train})
    base = in_float32(random_base(bench.config, bench.params.train, bench.device))
    path = Stock(base, params, bench.batches[0])
    path.padded = 1  # float32 needs more memory, and only the result counts
    found = outcome(path, bench.batches[0])
    say("loss and gradients of one batch computed in float32")
    return found


def load_paths(names: Sequence[str], bench: Bench) -> dict[str, Run]:
    """The paths, set up on one base of random weights."""
    base = random_base(bench.config, bench.params.train, bench.device)
    say("random weights made")
    bases = [twin(base) for _ in names[1:]] + [base]
    runs = {}
    for name, own in zip(names, bases, strict=True):
        runs[name] = Run(PATHS[name](own, bench.params, bench.batches[0]))
        say(f"{name}: {runs[name].path.attention} attention, {runs[name].path.memory}")
    return runs


def twin(base: PreTrainedModel) -> PreTrainedModel:
    """A copy that shares the quantised weights and owns the rest."""
    shared = [m.weight for m in base.modules() if isinstance(m, Linear4bit)]
    states = [weight.quant_state for weight in shared]
    return copy.deepcopy(base, {id(each): each for each in (*shared, *states)})


def facts(path: Stock | Project) -> dict:
    """How a path computes."""
    return {"attention": path.attention, "memory_plan": path.memory, "gates": path.gates}


def time_in_turns(runs: Mapping[str, Run], phase: str, bench: Bench) -> dict[str, dict]:
    """Tokens per second of each round, settling left out, peak memory and a profile if wanted."""
    found: dict[str, dict] = {name: {"rounds": [], "peak_gib": None} for name in runs}
    settling = {name: run.path.settling for name, run in runs.items()}
    for number in range(-max(settling.values()), bench.rounds):
        for name in (name for name in runs if number >= -settling[name]):
            run = runs[name]
            tokens_per_second, gib = timed(getattr(run, phase), bench)
            say(f"{phase}, round {number + 1}, {name}: {tokens_per_second:,.0f} tokens/s")
            if gib:  # recorded passes need theirs when they are recorded, before the first round
                gib = max(gib - _others(runs, name), found[name]["peak_gib"] or 0)
            found[name]["peak_gib"] = gib
            if number >= 0:
                found[name]["rounds"].append(tokens_per_second)
    for name, run in runs.items():
        found[name]["tokens_per_second"] = statistics.median(found[name]["rounds"])
        if bench.profile:
            work = partial(getattr(run, phase), bench.batches[:1])
            found[name]["profile"] = profiled(work, bench.device)
    return found


def timed(work: Callable[[Sequence[Batch]], None], bench: Bench) -> tuple[float, float | None]:
    """Tokens a second, padding left out, and the peak of a GPU's memory in GiB."""
    cuda = bench.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()  # what the other path had cached is this one's to use
        torch.cuda.reset_peak_memory_stats()
    work(bench.batches[:1])
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    work(bench.batches)
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    gib = torch.cuda.max_memory_allocated() / 2**30 if cuda else None
    return sum(batch.tokens for batch in bench.batches) / seconds, gib


def _others(runs: Mapping[str, Run], name: str) -> float:
    """GiB that only the other paths hold."""
    own = runs[name].storages()
    others = {a: n for other in runs.values() for a, n in other.storages().items()}
    return sum(n for address, n in others.items() if address not in own) / 2**30


def say(text: str) -> None:
    """Tell how far the bench is; of several processes the first does."""
    if processes.rank() == 0:
        print(f"[{time.perf_counter() - START:5.0f} s] {text}", flush=True)
