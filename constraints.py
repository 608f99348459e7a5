"""Write constraints.txt: a pin for every package that requirements-dev.txt installs.

`make constraints` runs this in a fresh environment; tests/test_constraints.py checks the file.
"""

import re
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent
FILE = ROOT / "constraints.txt"
HEADER = (
    "# Every package that requirements-dev.txt installs. `make constraints` renews this file.\n"
)

# A CUDA build of torch brings these in versions of its own choice; the CPU build has none of them.
# DVCLive brings nvidia-ml-py with either.
CUDA = re.compile(r"(nvidia|cuda)-(?!ml-py$).+|triton")


def read(file: Path) -> list[Requirement]:
    """The requirements of a file and of the files that it includes with `-r`."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r "):
            found += read(file.parent / text.removeprefix("-r "))
        elif text:
            found.append(Requirement(text))
    return found


def installed(requirements: list[Requirement]) -> dict[str, str]:
    """Versions, by name, of the installed packages that the requirements need, directly or not.

    A version has no local part: torch is 2.13.0+cpu here and a CUDA build elsewhere.
    """
    versions: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    waiting = [(requirement, "") for requirement in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if not wanted or CUDA.fullmatch(name):
            continue
        package = distribution(name)
        versions[name] = Version(package.version).public
        for part in {(name, ""), *((name, each) for each in requirement.extras)} - done:
            done.add(part)
            waiting += [(Requirement(text), part[1]) for text in package.requires or []]
    return versions


def main() -> None:
    """Write the file."""
    versions = installed(read(ROOT / "requirements-dev.txt"))
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
    FILE.write_text(HEADER + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
