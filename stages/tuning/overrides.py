"""Params with overrides, as `dvc exp run -S` applies them to a copy of params.yaml."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides

from stages.config.errors import UserError
from stages.config.params import Params, load, validated
from stages.config.paths import PARAMS


def overridden(overrides: Sequence[str]) -> tuple[dict, Params]:
    """The mapping that params.yaml becomes, and the same validated.

    Args:
        overrides: KEY=VALUE, in the grammar of `dvc exp run -S`.

    Raises:
        UserError: params.yaml, an override or what they give together is not valid.
    """
    load()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PARAMS.name
        copy.write_bytes(PARAMS.read_bytes())
        if overrides:
            _apply(copy, list(overrides))
        raw = yaml.safe_load(copy.read_text(encoding="utf-8"))
    told = " ".join(f"-S {override}" for override in overrides)
    return raw, validated(raw, f"{PARAMS} with {told}" if told else str(PARAMS))


def _apply(path: Path, overrides: list[str]) -> None:
    try:
        apply_overrides(path, overrides)
    except DvcException as error:
        cause = str(error.__cause__ or error).splitlines()[0].rstrip(".")
        several = any(each.startswith("model=") and "," in each for each in overrides)
        raise UserError(
            f"expected -S KEY=VALUE with a key of {PARAMS}, as `dvc exp run` takes it, found "
            f"{' '.join(overrides)}: {cause}"
            + (". (Several backbones: --models)" if several else "")
        ) from None
