"""Takes a tiny checkpoint through loading, all gates and one fold, as a run would."""

import contextlib
import io
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from bench.architectures import tiny
from stages.config.errors import UserError
from stages.config.params import Params
from stages.config.paths import PARAMS
from stages.training.fold import train_fold
from stages.training.gates.gate import GateFailed
from stages.votes.labels import TARGETS

ROOT = Path(__file__).parents[2]
OBJECTIVES, DTYPES = ("classify", "sft"), ("float32", "bfloat16")
COMBINATIONS = tuple((objective, dtype) for objective in OBJECTIVES for dtype in DTYPES)
WORDS = {0: ("good", "bad"), 1: ("bad", "good"), 2: ("good", "good")}
QUANTISED = 0.5  # of the weights, at least; what is left weighs more in a tiny model
BATTLES, TRAINED = 12, 8  # the others are predicted


@dataclass(frozen=True)
class Outcome:
    """What came of one objective in one dtype.

    Attributes:
        way: fast, plain, alone, refused, or defect, which is not allowed.
        words: the relative distance to stock transformers; or why it is refused, or what broke.
    """

    way: str
    words: str


def outcomes(model_type: str) -> list[Outcome]:
    """What comes of a model type, in the order of COMBINATIONS."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            tiny.make(model_type, Path(folder))
        except Exception as error:  # whatever a library says
            words = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return [Outcome("not made", words)] * len(COMBINATIONS)
        return [outcome(Path(folder), *combination) for combination in COMBINATIONS]


def outcome(checkpoint: Path, objective: str, dtype: str, way: str = "auto") -> Outcome:
    """Train and predict one tiny fold."""
    try:
        with tempfile.TemporaryDirectory() as folder, silence():
            summary = fold(checkpoint, params(objective, dtype, way), Path(folder))
    except GateFailed as error:
        found = (f"{g.name}: found {g.value}, expected {g.expected}" for g in error.gates)
        return Outcome("refused", f"a gate failed ({'; '.join(found)})")
    except UserError as error:
        return Outcome("refused", " ".join(str(error).replace(str(checkpoint), "it").split()))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return Outcome(
            "defect", f"{type(error).__name__} at {where}: {' '.join(str(error).split())}"
        )
    distance = next(g["value"] for g in summary["gates"] if g["name"] == "as_transformers")
    return Outcome(summary["way"], distance)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Let a fold's lines and progress bars go nowhere."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def fold(checkpoint: Path, params: Params, folder: Path) -> dict:
    """Two steps on a few battles, and the others predicted; returns the run's summary."""
    made = battles()
    return train_fold(checkpoint, made[:TRAINED], made[TRAINED:], params, folder).summary


def params(objective: str, dtype: str, way: str) -> Params:
    """The shipped params, for a tiny model and two steps.

    At the first a head of zeros gives the adapter no gradient.
    """
    raw = yaml.safe_load((ROOT / PARAMS).read_text(encoding="utf-8"))
    raw["scales"]["smoke"] |= {"max_tokens": 128, "token_budget": 256, "batch_size": TRAINED // 2}
    raw["backbones"]["llama"]["small"]["quantised"] = QUANTISED
    raw["train"] |= {"objective": objective, "dtype": dtype, "way": way}
    return Params.model_validate(raw)


def battles() -> pd.DataFrame:
    """A few battles of one to three turns and of several lengths."""
    rows = []
    for i in range(BATTLES):
        turns, (a, b) = 1 + i % 3, WORDS[i % 3]
        row = {"id": f"battle-{i}", "group": i, "fold": i % 2, "source": "", "weight": 1.0}
        row["training_only"] = False
        row |= {name: float(place == i % 3) for place, name in enumerate(TARGETS)}
        row["prompt"] = [f"question {i} turn {turn}" for turn in range(turns)]
        row["response_a"] = [f"a {a} answer {i}"] * turns
        row["response_b"] = [f"a {b} reply {i}" * (1 + i % 4)] * turns
        rows.append(row)
    return pd.DataFrame(rows)
