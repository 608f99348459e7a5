"""Every measurement starts with `python -m bench.NAME`."""

import runpy

import pytest

from tests.support.places import REPO

FILES = [path.stem for path in (REPO / "bench").glob("[!_]*.py")]
FOLDERS = [path.parent.name for path in (REPO / "bench").glob("*/__main__.py")]


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")  # other tests import the same
@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_help_names_the_command(name: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["-m", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"bench.{name}", run_name="__main__")
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: python -m bench.{name} ")
    assert f"\n    python -m bench.{name}" in printed
