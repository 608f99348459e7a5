"""constraints.txt pins everything that is installed, so that a clone next year gets the same."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from constraints import FILE, ROOT, installed, read

RENEW = "add them, or let `make constraints` write the file anew"


@pytest.fixture
def pins() -> dict[str, str]:
    """The versions in constraints.txt, by name."""
    return dict(line.split("==") for line in FILE.read_text(encoding="utf-8").splitlines()[1:])


def test_every_installed_package_is_pinned(pins: dict[str, str]) -> None:
    # Not those of a CUDA build of torch (nvidia-*, cuda-*, triton): torch itself pins them.
    found = installed(read(ROOT / "requirements-dev.txt"))
    lacking = {f"{name}=={version}" for name, version in found.items() if pins.get(name) != version}
    assert not lacking, f"constraints.txt lacks what is installed: {sorted(lacking)}; {RENEW}"


def test_what_the_project_chose_agrees_with_the_pins(pins: dict[str, str]) -> None:
    chosen = read(ROOT / "requirements-dev.txt")
    names = {requirement.name for requirement in chosen}
    assert {"torch", "pytest"} <= names
    apart = [str(r) for r in chosen if pins.get(canonicalize_name(r.name), "0") not in r.specifier]
    assert not apart, f"requirements and constraints.txt disagree on {apart}; {RENEW}"


def test_pins_are_sorted_exact_and_portable(pins: dict[str, str]) -> None:
    assert list(pins) == sorted(pins)
    assert "pip" not in pins
    assert not [name for name, version in pins.items() if "+" in version or "*" in version]


def test_needs_are_followed_through_extras_and_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = {
        "chosen": ['inner-part[more]; python_version > "3"', 'absent; python_version < "3"'],
        "inner_part": ['deeper; extra == "more"', 'absent; extra == "less"', "chosen"],
        "deeper": ["nvidia-cublas", "triton"],
        "stranger": [],
    }
    for name, requires in needs.items():
        folder = tmp_path / f"{name}-1.2.dist-info"
        folder.mkdir()
        lines = [f"Name: {name}", "Version: 1.2+cpu", *(f"Requires-Dist: {r}" for r in requires)]
        (folder / "METADATA").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    found = installed([Requirement("Chosen==1.2")])
    assert found == {"chosen": "1.2", "inner-part": "1.2", "deeper": "1.2"}
