"""What a finished run needs to predict, below a folder laid out as the repository."""

from pathlib import Path

from stages.config.params import Params
from stages.config.paths import (
    ADAPTER_FILES,
    CALIBRATION,
    OFFSET_FILE,
    PARAMS,
    SPLIT_METRICS,
    WEIGHTS,
    adapter,
)


def predicting(params: Params) -> list[Path]:
    """The files that predicting reads; the base's weights are fetched, the tokenizer with them."""
    names = [*ADAPTER_FILES, OFFSET_FILE] if params.train.offset else ADAPTER_FILES
    adapters = [adapter(fold) / name for fold in params.split.folds for name in names]
    return [PARAMS, WEIGHTS, CALIBRATION, SPLIT_METRICS, *adapters]
