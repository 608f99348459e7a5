"""MLflow's database in a repository that was moved or copied.

MLflow keeps each location of artifacts as an absolute URI. Those in a repository that is now
elsewhere lead nowhere, or into the repository that this one is a copy of.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

ARTIFACTS = "mlartifacts"  # the folder of artifacts in a repository's root
LOCATIONS = {  # the column of each table that has them
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def former_roots(database: Path, experiments: Iterable[str], root: Path) -> list[Path]:
    """Where the repository was when its database was written; nothing if it was here.

    Args:
        experiments: the names of those that this project makes.
        root: where the repository is.
    """
    names = list(experiments)
    marks = ", ".join("?" * len(names))
    query = f"select distinct artifact_location from experiments where name in ({marks})"
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        places = [_path(location) for (location,) in connection.execute(query, names)]
    roots = [place.parent for place in places if place and place.name == ARTIFACTS]
    return [former for former in roots if former != root]


def _path(location: str) -> Path | None:
    """The folder that a URI of this machine names."""
    found = urlparse(location)
    return Path(unquote(found.path)) if found.scheme == "file" else None


def repair(database: Path, former: Iterable[Path], root: Path) -> None:
    """Let all that the database has in former roots lie in this one."""
    changes = [
        (f"{written(old)}/", f"{written(root)}/")
        for old in former
        for written in (Path.as_uri, str)
    ]
    with closing(sqlite3.connect(database)) as connection, connection:
        for old, new in changes:
            for table, column in LOCATIONS.items():
                connection.execute(
                    f"update {table} set {column} = ? || substr({column}, ?) "
                    f"where substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, len(old), old),
                )


def repaired_copy(database: Path, former: Iterable[Path], root: Path, copy: Path) -> None:
    """The same in a copy: the database stays as it is, and may be one that cannot be written."""
    with (
        closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
    repair(copy, former, root)
