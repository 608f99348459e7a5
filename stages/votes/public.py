"""Public sets of votes, from the hub or from Kaggle, and the record of what came.

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
from fnmatch import fnmatch
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, errors, hf_hub_download

from stages.config.errors import UserError
from stages.config.json_files import write_json
from stages.votes.files import read_rows
from stages.votes.layouts import Meanings
from stages.votes.reading import peek
from stages.votes.recognition import recognise

SETS = {  # by name: the owner on the hub, and the pattern of the files of votes
    "arena-human-preference-55k": ("lmarena-ai", "train.csv"),
    "arena-human-preference-100k": ("lmarena-ai", "data/*.parquet"),
    "arena-human-preference-140k": ("lmarena-ai", "data/*.parquet"),
    "mt_bench_human_judgments": ("lmsys", "data/human-*.parquet"),
    "ultrafeedback_binarized": ("HuggingFaceH4", "data/train_prefs-*.parquet"),
    "hh-rlhf": ("Anthropic", "*-*/train.jsonl.gz"),
    "HelpSteer2": ("nvidia", "preference/preference.jsonl.gz"),
    "HelpSteer3": ("nvidia", "preference/train.jsonl.gz"),
    "reward-bench": ("allenai", "data/filtered-*.parquet"),
    "Skywork-Reward-Preference-80K-v0.2": ("Skywork", "data/train-*.parquet"),
    "SHP": ("stanfordnlp", "*/train.json"),
}
ARENA = "arena-human-preference-55k"
COMPETITION = "lmsys-chatbot-arena"
FILE = "train.csv"  # of the competition


def from_hub(folder: Path, name: str) -> tuple[list[Path], dict]:
    """Download a data set's votes into a folder.

    Returns:
        The files; their source, id and revision, which is the commit on the hub.

    Raises:
        UserError: the hub refuses, lacks or cannot be asked for it.
    """
    owner, pattern = SETS[name]
    id_ = f"{owner}/{name}"
    with _explained(id_, pattern):
        info = HfApi().dataset_info(id_)
        files = sorted(s.rfilename for s in info.siblings or [] if fnmatch(s.rfilename, pattern))
        if not files:
            raise UserError(_lacking(id_, pattern))
        paths = [
            hf_hub_download(id_, file, repo_type="dataset", revision=info.sha, local_dir=folder)
            for file in files
        ]
    return [Path(path).resolve() for path in paths], {
        "source": "hub",
        "id": id_,
        "revision": info.sha,
    }


@contextmanager
def _explained(id_: str, pattern: str) -> Iterator[None]:
    """Turn the hub's errors into what the user can do about them."""
    try:
        yield
    # RuntimeError: of the client for large files; ValueError: the answer was not a hub's
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
        unreached = isinstance(error, errors.LocalEntryNotFoundError)
        cause = error.__cause__ if unreached else None
        raise UserError(_advice(cause or error, id_, pattern)) from None


def _lacking(id_: str, pattern: str) -> str:
    other = "--source kaggle" if id_.endswith(ARENA) else "another set"
    return (
        f"the hub has no {pattern} of {id_} (HTTP 404): look at "
        f"{constants.ENDPOINT}/datasets/{id_}; if it is gone, try {other}, or bring any file of "
        "votes and name it in data.raw"
    )


def _advice(error: BaseException, id_: str, pattern: str) -> str:
    page = f"{constants.ENDPOINT}/datasets/{id_}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or status in (401, 403):
        return (
            f"the hub refuses {id_} (HTTP {status}): accept its terms on {page}, then log in "
            "with `hf auth login` or set HF_TOKEN to a token of that account that may read it"
        )
    if status == 404:
        return _lacking(id_, pattern)
    return (
        f"{id_} could not be fetched from {constants.ENDPOINT} ({type(error).__name__}: "
        f"{error}): check the network, HF_ENDPOINT, HF_HUB_OFFLINE and the disk, and run again"
    )


def from_kaggle(folder: Path, name: str) -> tuple[list[Path], dict]:
    """Download the competition's votes into a folder, with the user's own client and account.

    Returns:
        The file; its source, id and revision, which is None: Kaggle gives none.

    Raises:
        UserError: Kaggle has no such set; the client is not installed, does not succeed, or
            brings something else.
    """
    if name != ARENA:
        raise UserError(f"--source kaggle: it has only {ARENA}, and not {name}")
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
    return [path], {"source": "kaggle", "id": COMPETITION, "revision": None}


def _unpack(packed: Path, path: Path) -> None:
    try:
        with zipfile.ZipFile(packed) as archive:
            archive.extract(path.name, path.parent)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"`kaggle` brought a broken {packed.name} ({error}): run again") from None


SOURCES = {"hub": from_hub, "kaggle": from_kaggle}


def fetch(source: str, folder: Path, name: str = ARENA) -> tuple[Path, dict]:
    """Bring the votes of a source into a folder, whole or not at all.

    Returns:
        The file, or the folder of several; and the record that is written beside it: source, id,
        revision, files with the SHA-256 of each, bytes, rows, fetched_at.

    Raises:
        UserError: nothing came, or it is no file of votes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as temporary:
        partial = Path(temporary).resolve()
        paths, record = SOURCES[source](partial, name)
        record |= _describe(paths, partial)
        final = folder / record["id"].rpartition("/")[2]
        if len(paths) == 1:
            final = final.with_name(final.name + "".join(paths[0].suffixes[-2:]))
            paths[0].replace(final)
        else:
            _replace_folder(paths, partial, final)
    write_json(final.with_name(f"{record['id'].rpartition('/')[2]}.source.json"), record)
    return final, record


def _replace_folder(paths: list[Path], partial: Path, final: Path) -> None:
    """Put files, without the folders that they came in, in place of what an earlier fetch left."""
    whole = partial / "whole"
    whole.mkdir()
    for path in paths:
        path.replace(whole / "-".join(path.relative_to(partial).parts))
    if final.exists():
        final.replace(partial / "old")
    whole.replace(final)


def _rows(path: Path) -> int:
    """How many a file of votes has.

    Raises:
        UserError: it is none.
    """
    sample, rows = peek(read_rows(path))
    recognise(sample, str(path), Meanings({}, dict.fromkeys((1, 2, 3), 1.0)))
    return sum(1 for _ in rows)


def _describe(paths: list[Path], folder: Path) -> dict:
    try:
        rows = sum(map(_rows, paths))
    except UserError as error:
        raise UserError(f"what came is no file of votes, and is not kept: {error}") from None
    return {
        "files": {str(path.relative_to(folder)): _sha256(path) for path in paths},
        "bytes": sum(path.stat().st_size for path in paths),
        "rows": rows,
        "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
