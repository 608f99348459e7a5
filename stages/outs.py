"""What a finished run needs to predict, below a folder laid out as the repository."""

from collections.abc import Sequence
from pathlib import Path

from stages.params import PARAMS

WEIGHTS = Path("models/weights.json")
CALIBRATION = Path("data/evaluated/calibration.json")
SPLIT = Path("metrics/split.json")  # holds the class shares of the votes
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def adapter(fold: int) -> Path:
    """The folder of a fold's adapter."""
    return Path(f"models/fold-{fold}")


def predicting(folds: Sequence[int]) -> list[Path]:
    """The files that predicting reads; the base's weights are fetched, the tokenizer with them."""
    adapters = [adapter(fold) / name for fold in folds for name in ADAPTER]
    return [PARAMS, WEIGHTS, CALIBRATION, SPLIT, *adapters]
