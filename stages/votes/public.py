"""The public arena votes, from the hub or from Kaggle, and the record of what came.

Both need the user's own account where the source asks for one: the hub's token as its client finds
it (HF_TOKEN, `hf auth login`; another hub by HF_ENDPOINT), and Kaggle's own command line client.
"""

import hashlib
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, errors, hf_hub_download

from stages.config.errors import UserError
from stages.config.json_files import write_json
from stages.votes.files import read_rows
from stages.votes.layouts import Meanings
from stages.votes.reading import peek
from stages.votes.recognition import recognise

DATASET = "lmarena-ai/arena-human-preference-55k"
COMPETITION = "lmsys-chatbot-arena"
FILE = "train.csv"  # in both places


def from_hub(folder: Path) -> tuple[Path, dict]:
    """Download the data set's votes into a folder.

    Returns:
        The file; its source, id and revision, which is the commit on the hub.

    Raises:
        UserError: the hub refuses, lacks or cannot be asked for it.
    """
    with _explained():
        commit = HfApi().dataset_info(DATASET).sha
        path = hf_hub_download(
            DATASET, FILE, repo_type="dataset", revision=commit, local_dir=folder
        )
    return Path(path), {"source": "hub", "id": DATASET, "revision": commit}


@contextmanager
def _explained() -> Iterator[None]:
    """Turn the hub's errors into what the user can do about them."""
    try:
        yield
    # RuntimeError: of the client for large files; ValueError: the answer was not a hub's
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
        unreached = isinstance(error, errors.LocalEntryNotFoundError)
        cause = error.__cause__ if unreached else None
        raise UserError(_advice(cause or error)) from None


def _advice(error: BaseException) -> str:
    page = f"{constants.ENDPOINT}/datasets/{DATASET}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or status in (401, 403):
        return (
            f"the hub refuses {DATASET} (HTTP {status}): accept its terms on {page}, then log in "
            "with `hf auth login` or set HF_TOKEN to a token of that account that may read it"
        )
    if status == 404:
        return (
            f"the hub has no {FILE} of {DATASET} (HTTP 404): look at {page}; if it is gone, try "
            "--source kaggle, or bring any file of votes and name it in data.raw"
        )
    return (
        f"{DATASET} could not be fetched from {constants.ENDPOINT} ({type(error).__name__}: "
        f"{error}): check the network, HF_ENDPOINT, HF_HUB_OFFLINE and the disk, and run again"
    )


def from_kaggle(folder: Path) -> tuple[Path, dict]:
    """Download the competition's votes into a folder, with the user's own client and account.

    Returns:
        The file; its source, id and revision, which is None: Kaggle gives none.

    Raises:
        UserError: the client is not installed, does not succeed, or brings something else.
    """
    client = shutil.which("kaggle")
    if client is None:
        raise UserError(
            "the command `kaggle` is not installed: `pip install kaggle`, then put an API token "
            "where it looks for it (https://www.kaggle.com/docs/api says how)"
        )
    command = [client, "competitions", "download", COMPETITION, "--file", FILE]
    done = subprocess.run([*command, "--path", folder, "--force"])
    path, packed = folder / FILE, folder / f"{FILE}.zip"
    if done.returncode or not (path.exists() or packed.exists()):
        raise UserError(
            f"`kaggle` did not download {FILE} of {COMPETITION}, for the reason above: check that "
            "your API token is in its place (https://www.kaggle.com/docs/api) and that you have "
            f"accepted the rules on https://www.kaggle.com/competitions/{COMPETITION}/rules"
        )
    if packed.exists():
        _unpack(packed, path)
    return path, {"source": "kaggle", "id": COMPETITION, "revision": None}


def _unpack(packed: Path, path: Path) -> None:
    try:
        with zipfile.ZipFile(packed) as archive:
            archive.extract(path.name, path.parent)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"`kaggle` brought a broken {packed.name} ({error}): run again") from None


SOURCES = {"hub": from_hub, "kaggle": from_kaggle}


def fetch(source: str, folder: Path) -> tuple[Path, dict]:
    """Bring the votes of a source into a folder, whole or not at all.

    Returns:
        The file, and the record that is written beside it: source, id, revision, file, sha256,
        bytes, rows, fetched_at.

    Raises:
        UserError: nothing came, or it is no file of votes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as partial:
        path, record = SOURCES[source](Path(partial))
        record |= _describe(path)
        final = folder / f"{record['id'].rpartition('/')[2]}.csv"
        path.replace(final)
    write_json(final.with_suffix(".source.json"), record)
    return final, record


def _rows(path: Path) -> int:
    """How many a file of votes has.

    Raises:
        UserError: it is none.
    """
    sample, rows = peek(read_rows(path))
    recognise(sample, str(path), Meanings({}, {}))
    return sum(1 for _ in rows)


def _describe(path: Path) -> dict:
    try:
        rows = _rows(path)
    except UserError as error:
        raise UserError(f"what came is no file of votes, and is not kept: {error}") from None
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "file": FILE,
        "sha256": sha256,
        "bytes": path.stat().st_size,
        "rows": rows,
        "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
