"""The refitted model as a folder that others load without this project."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import Tensor

from stages.config.errors import UserError, out_of_memory
from stages.config.params import Train
from stages.config.paths import ADAPTER_FILES
from stages.deployment import gguf
from stages.deployment.card import card
from stages.deployment.merging import merge, padding
from stages.deployment.reloading import Agreement, agreement, reload, require
from stages.deployment.source import Source, outputs, read_source
from stages.runs.ensemble import quiet_libraries
from stages.runs.files import copy_files
from stages.training.gates.reference import computing_in

Base: TypeAlias = Literal["trained", "original"]
TRIED = 4  # votes on which an export is compared with the run


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        agreed: how near it is to the model of its base and adapter.
        from_run: how far it is from the run's, if it was merged into another base.
    """

    agreed: Agreement
    from_run: float | None


def export(
    refitted: Path, to: Path, merged: Base | None, with_gguf: bool, licence: str | None
) -> Exported:
    """Write an export, load it again, and only then let it appear in its place.

    Args:
        merged: into which base: as it was quantised for training, or as it came; None exports the
            adapter alone.
        licence: of the base, if known to the user.

    Raises:
        UserError: it cannot be exported so, or is not the same model when it is loaded again.
    """
    if to.exists():
        raise UserError(f"--to: {to} is there already: remove it, or name another folder")
    if with_gguf:
        gguf.require_converter()
    quiet_libraries()
    source = read_source(refitted)
    texts = source.texts(TRIED)
    with _appearing(to) as partial:
        exact, half = _write(source, partial, texts, merged)
        torch.cuda.empty_cache()
        found = reload(source, partial, texts, merged is not None)
        require(agreed := agreement(found, exact, half))
        from_run = _from_run(source, texts, found) if merged == "original" else None
        text = card(source, merged is not None, agreed, _told(source, from_run), licence)
        (partial / "README.md").write_text(text, encoding="utf-8")
        if with_gguf:
            gguf.convert(partial)
    return Exported(agreed, from_run)


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder that gets its name when it is finished, and is removed if it never is.

    Raises:
        UserError: the memory or the disk is full.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(folder)
    except RuntimeError as error:
        if not out_of_memory(error) or not torch.cuda.is_available():
            raise
        raise UserError(
            "the GPU's memory is too small for the model as it is loaded to be exported: run the "
            "same on the CPU, with CUDA_VISIBLE_DEVICES= before it"
        ) from None
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{folder} could not be written ({error}): make room, or name another folder"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(
    source: Source, folder: Path, texts: list[list[int]], merged: Base | None
) -> tuple[Tensor, Tensor]:
    """Write the model and its tokenizer; returns what it has to say, in float32 and in bfloat16."""
    model = source.load(_stored(source.params.train, merged))
    said = _outputs(model, source, texts)
    if merged:
        merge(model, source).save_pretrained(folder)
    else:
        copy_files(source.folder, map(Path, ADAPTER_FILES), folder)
    tokenizer = source.tokenizer
    if source.params.train.objective != "sft":
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding(tokenizer))
    tokenizer.save_pretrained(folder)
    return said


def _stored(train: Train, merged: Base | None) -> Train:
    """The training's settings, with the base as it came where that is wanted."""
    if merged != "original":
        return train
    plain = train.quantization.model_copy(update={"type": "none"})
    return train.model_copy(update={"quantization": plain})


def _outputs(model: PeftModel, source: Source, texts: list[list[int]]) -> tuple[Tensor, Tensor]:
    answers = source.compute.objective.answers
    answers = None if answers is None else list(answers)
    with computing_in(model, torch.float32):
        exact = outputs(model, texts, answers)
    with computing_in(model, torch.bfloat16):
        return exact, outputs(model, texts, answers)


def _from_run(source: Source, texts: list[list[int]], found: Tensor) -> float:
    """How far an export's logits are, at most, from those on the base that was trained on."""
    exact, half = _outputs(source.load(source.params.train), source, texts)
    return agreement(found, exact, half).largest


def _told(source: Source, from_run: float | None) -> str:
    if from_run is None:
        return ""
    kind = source.params.train.quantization.type.upper()
    return (
        f"The adapter was trained on the base in {kind} and is merged into the original one: from "
        f"the run's logits these are up to {from_run:.2g}."
    )
