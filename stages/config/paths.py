"""Every path of the pipeline, once; all are relative to the repository's root.

A test compares them with what dvc.yaml names.
"""

from pathlib import Path

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")

# prepare
BATTLES = Path("data/prepared/battles.parquet")
QUARANTINE = Path("data/prepared/quarantine.csv")
PREPARE_METRICS = Path("metrics/prepare.json")

# auxiliary
AUXILIARY = Path("data/auxiliary")

# pairs, predictions
LESSONS = Path("data/lessons")

# teacher
TEACHER = Path("data/teacher")

# split
FOLDS = Path("data/folds/folds.parquet")
SPLIT_METRICS = Path("metrics/split.json")  # holds the class shares of the votes

# baselines
BASELINE_PREDICTIONS = Path("data/baselines/predictions.parquet")
BASELINES_METRICS = Path("metrics/baselines.json")

# weights
WEIGHTS = Path("models/weights.json")

# train
PREDICTIONS = Path("data/predictions")
SUMMARIES = Path("metrics/folds")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
OFFSET_FILE = "offset.json"  # beside these, if train.offset asks for one

# evaluate
OUT_OF_FOLD = Path("data/evaluated/out_of_fold.parquet")
CALIBRATION = Path("data/evaluated/calibration.json")
METRICS = Path("metrics/metrics.json")
PLOTS = Path("metrics/plots")
PROVENANCE = Path("metrics/provenance.json")

# report, compare
REPORT = Path("metrics/report.html")
CHARTS = Path("metrics/report")
COMPARISON = Path("metrics/comparison.json")

# ratings
RATINGS = Path("metrics/ratings.json")

# blend
BLENDS = Path("blends")  # a folder each, laid out as the repository, with BLEND in it
BLEND = Path("blend.json")  # names the members, their folders and weights

# refit
REFIT = Path("models/refit")  # an adapter's folder, with the files of its run beside it
REFIT_FACTS = Path("refit.json")  # in it: how the adapter was made

# settle
SETTLED = Path("metrics/settled.json")

# plan
PLAN = Path("metrics/plan.json")

# tune
TUNING = Path("metrics/tuning")


def auxiliary(key: str) -> Path:
    """What became of one of the files in data.auxiliary, which DVC calls file0, file1, …"""
    return AUXILIARY / key


def lesson(kind: str, key: str) -> Path:
    """What became of one of the files in teacher.pairs or teacher.predictions, likewise."""
    return LESSONS / kind / key


def teacher(fold: int) -> Path:
    """What a teacher says of the votes and pairs that a fold is trained on."""
    return TEACHER / f"fold-{fold}.parquet"


def teacher_facts(fold: int) -> Path:
    """Who the fold's teacher was, and how much it taught."""
    return TEACHER / f"fold-{fold}.json"


def adapter(fold: int) -> Path:
    """The folder of a fold's adapter, head and tokenizer."""
    return Path(f"models/fold-{fold}")


def predictions(fold: int) -> Path:
    """The logits of a fold's held-out battles."""
    return PREDICTIONS / f"fold-{fold}.parquet"


def summary(fold: int) -> Path:
    """What a fold's training was, its gates and its cost."""
    return SUMMARIES / f"fold-{fold}.json"


def curves(fold: int) -> Path:
    """A fold's losses by step."""
    return SUMMARIES / f"fold-{fold}.csv"


def tuning(model: str, kind: str) -> Path:
    """The history of a backbone's tuning: csv, json or html."""
    return TUNING / f"{model}.{kind}"
