"""An export uploaded to the hub with the user's own account."""

from pathlib import Path

import httpx2
from huggingface_hub import HfApi

from stages.config.errors import UserError


def push(folder: Path, repository: str) -> str:
    """Upload a folder; a repository that is not there yet is made, a private one.

    Returns:
        The repository's address.

    Raises:
        UserError: the hub refuses it or cannot be reached.
    """
    api = HfApi()
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except (httpx2.HTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{folder} is written, but could not be uploaded to {repository} "
            f"({type(error).__name__}: {reason}): expected OWNER/NAME of a repository in which "
            f"your account may write; log in with `hf auth login`, then run `hf upload "
            f"{repository} {folder}`"
        ) from None
    return str(address)
