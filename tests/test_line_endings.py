"""dvc.lock holds hashes of bytes, so that a checkout has to have those of the commit."""

import subprocess
from pathlib import Path

from tests.support.places import REPO


def git(*arguments: str, stdin: str | None = None) -> str:
    return subprocess.check_output(["git", *arguments], input=stdin, text=True)


def test_a_clone_that_would_convert_line_endings_has_the_bytes_of_the_commit(tmp_path: Path):
    git("clone", "-q", "--depth=1", "-c", "core.autocrlf=true", REPO.as_uri(), str(tmp_path))
    listed = git("-C", str(tmp_path), "ls-files", "--format=%(objectname) %(path)").splitlines()
    committed = dict(reversed(line.split(" ", 1)) for line in listed)
    assert {"data/raw/starter.csv", "stages/prepare.py", "params.yaml"} <= committed.keys()
    paths = "".join(f"{tmp_path / name}\n" for name in committed)
    found = git("hash-object", "--no-filters", "--stdin-paths", stdin=paths).split()
    converted = [
        name for (name, blob), now in zip(committed.items(), found, strict=True) if now != blob
    ]
    assert not converted
