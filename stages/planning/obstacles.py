"""What would stop a run: a checkpoint that cannot serve or be read, memory, the disk."""

import shutil
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, errors
from transformers import PreTrainedConfig

from stages.config.params import Hub, Params
from stages.config.root import state
from stages.model.attention import soft_capped
from stages.planning.checkpoint import Here
from stages.planning.devices import Device
from stages.planning.shape import Shape
from stages.preflight.checks import CHECKS, check, embeds_its_tokens, fits_into_memory

GB = 1e9
STORED = 2  # bytes of a weight on the disk
KEPT_CHECKPOINTS = 2  # of a training, with adapter and moments
COPIES = 2  # of what a fold leaves: in the workspace, and in DVC's cache


def require_fit(folder: Path, here: Here, params: Params) -> None:
    """Refuse a checkpoint that cannot serve, by its small files.

    The memory of this machine is another question, since it may train elsewhere. Without its
    tokenizer nothing is said of that.

    Raises:
        UserError: it cannot.
    """
    skipped = {fits_into_memory} | (set() if here.tokenizer else {embeds_its_tokens})
    check(folder, here.name, params, [each for each in CHECKS if each not in skipped])


def closed(here: Here, source: object) -> tuple[str | None, str | None]:
    """Whether the hub would refuse the weights.

    Returns:
        Why they cannot be fetched; and what is not known, if the hub cannot be asked.
    """
    if here.weights or not isinstance(source, Hub):
        return None, None
    try:
        HfApi().auth_check(source.id)
    except errors.GatedRepoError:
        return (
            f"{source.id} is gated, and no token here may read it: accept its licence on its page "
            "of the hub, then log in with `hf auth login` or set HF_TOKEN"
        ), None
    except errors.RepositoryNotFoundError:
        return (
            f"the hub shows no model {source.id}: check its id in params.yaml; if it is private, "
            "log in with `hf auth login` or set HF_TOKEN"
        ), None
    except (errors.OfflineModeIsEnabled, httpx2.HTTPError, OSError):
        return None, f"whether the hub lets you read {source.id}: it could not be asked"
    return None, None


def no_flash4(params: Params, device: Device) -> tuple[str | None, str | None]:
    """Whether FlashAttention 4 was asked for and cannot be had; as `closed` tells."""
    if params.train.attention != "flash4":
        return None, None
    if not device.hopper:
        return (
            f"train.attention is flash4, which needs a GPU of the H100's generation; the device is "
            f"{device.name}: set it to auto"
        ), None
    return None, "whether the package flash-attn-4 is installed where it will train"


def no_fp8(params: Params, device: Device) -> str | None:
    """Why a device has no products in FP8, where they were asked for."""
    train = params.train
    if not train.fp8 or (device.hopper and train.dtype in ("auto", "bfloat16")):
        return None
    return (
        "train.fp8 is true, which needs a GPU of the H100's generation and bfloat16; the device is "
        f"{device.name}, and train.dtype {train.dtype}: set it to false"
    )


def fp8_beside(params: Params, config: PreTrainedConfig, way: str) -> str | None:
    """Why a backbone does not go with products in FP8, where they were asked for.

    Args:
        way: of its shape.
    """
    train = params.train
    if not train.fp8:
        return None
    if "plain" in (way, train.way):
        return (
            f"train.fp8 is true, but {config.model_type} goes the plain way, which has no products "
            "in FP8: set it to false"
        )
    if soft_capped(config) and train.attention == "auto" and train.compile is not False:
        return (
            f"train.fp8 is true, which the soft-capped attention of {config.model_type} does not "
            "go with: set it to false"
        )
    return None


def full(shapes: list[tuple[Here, Shape]], folds: int, seeds: int) -> str | None:
    """Whether the disk is too small for weights, checkpoints and adapters; None if it is not."""
    weights = sum(STORED * shape.on_disk for here, shape in shapes if not here.weights)
    adapters = sum(COPIES * folds * seeds * 4 * shape.trained for _, shape in shapes)
    checkpoints = max(KEPT_CHECKPOINTS * 12 * shape.trained for _, shape in shapes)
    needed = weights + adapters + checkpoints
    place = next(path for path in (state(), *state().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed <= free:
        return None
    return (
        f"{needed / GB:.0f} GB of disk are needed and {free / GB:.0f} GB are free at {place}: "
        f"{weights / GB:.0f} for weights that are not here, {adapters / GB:.0f} for all folds' "
        f"adapters and their copies in DVC's cache, {checkpoints / GB:.0f} for checkpoints"
    )
