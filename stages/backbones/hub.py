"""Checkpoints on the Hugging Face hub: a revision's commit, its files, and what the hub refuses."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, errors, snapshot_download

from stages.backbones.layout import FILES, SMALL, check_files
from stages.config.errors import UserError
from stages.config.params import Hub


def commit(hub: Hub, place: str, state: Path) -> str:
    """The commit a revision names now; the one it named last if the hub cannot be reached."""
    with _explained(hub.id, place):
        return (
            HfApi().resolve_revision(hub.id, revision=hub.revision, cache_dir=_refs(state)).resolved
        )


def download(
    record: dict[str, str], state: Path, partial: Path, check: Callable[[Path], None]
) -> None:
    """Fetch a checkpoint's files, the weights last.

    Args:
        check: is given the folder of the small files, and raises what keeps the weights away.

    Raises:
        UserError: the hub refuses it, or it has no safetensors.
    """
    with _explained(record["checkpoint"], _place(record)):
        files = HfApi().list_repo_files(record["checkpoint"], revision=record["revision"])
    _fetch(record, state, partial, SMALL)
    check_files(record["checkpoint"], files, partial)
    check(partial)
    _fetch(record, state, partial, FILES)
    shutil.rmtree(partial / ".cache")  # the client's notes for going on


def _fetch(record: dict[str, str], state: Path, partial: Path, patterns: Sequence[str]) -> None:
    with _explained(record["checkpoint"], _place(record)):
        snapshot_download(
            record["checkpoint"],
            revision=record["revision"],
            cache_dir=_refs(state),
            local_dir=partial,
            allow_patterns=list(patterns),
            ignore_patterns="*/*",
        )


def _place(record: dict[str, str]) -> str:
    """Where params.yaml names the checkpoint."""
    return f"backbones.{record['family']}.{record['size']}.hub"


def _refs(state: Path) -> Path:
    """Where the hub's client notes which commit a revision last named."""
    return state / "weights" / "refs"


@contextmanager
def _explained(name: str, place: str) -> Iterator[None]:
    """Turn the hub's errors into what the user can do about them."""
    try:
        yield
    except (httpx2.HTTPError, OSError, errors.RevisionResolutionError) as error:
        unreached = (errors.RevisionResolutionError, errors.LocalEntryNotFoundError)
        if isinstance(error, unreached) and error.__cause__:
            error = error.__cause__
        raise UserError(_advice(error, name, place)) from None


def _advice(error: BaseException, name: str, place: str) -> str:
    page = f"{constants.ENDPOINT}/{name}"
    login = "log in with `hf auth login` or set HF_TOKEN"
    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case errors.RevisionNotFoundError():
            return f"{name} has no such revision: check {place}.revision against {page}"
        case errors.RepositoryNotFoundError() if not isinstance(error, errors.GatedRepoError):
            return (
                f"the hub shows no model {name}: check {place}.id; if the model is private, {login}"
            )
        case _ if isinstance(error, errors.GatedRepoError) or status in (401, 403):
            return (
                f"the hub refuses {name} (HTTP {status}): accept its licence on {page}, then "
                f"{login} to a token of that account that may read gated models"
            )
    return (
        f"{name} could not be fetched from the hub ({type(error).__name__}: {error}): check the "
        "network and the disk, and run again to go on; without a network, put a downloaded copy "
        f"in a folder and give it in {place.removesuffix('.hub')} as `folder:` in place of `hub:`"
    )
