"""What a finished run needs to predict, below a folder laid out as the repository."""

from pathlib import Path

from stages.params import PARAMS, Params

WEIGHTS = Path("models/weights.json")
CALIBRATION = Path("data/evaluated/calibration.json")
SPLIT = Path("metrics/split.json")  # holds the class shares of the votes
ADAPTER = ["adapter_config.json", "adapter_model.safetensors"]
OFFSET = "offset.json"  # beside it, if train.offset asks for one


def adapter(fold: int) -> Path:
    """The folder of a fold's adapter."""
    return Path(f"models/fold-{fold}")


def predicting(params: Params) -> list[Path]:
    """The files that predicting reads; the base's weights are fetched, the tokenizer with them."""
    names = [*ADAPTER, OFFSET] if params.train.offset else ADAPTER
    adapters = [adapter(fold) / name for fold in params.split.folds for name in names]
    return [PARAMS, WEIGHTS, CALIBRATION, SPLIT, *adapters]
