"""Files for other machines: each is what it claims to be, and what it calls exists."""

import ast
import itertools
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.cli import DvcParserError
from dvc.cli.parser import get_main_parser

from docs.elsewhere import kaggle_run
from stages.config.params import Params
from tests.support.places import REPO

FOLDER = REPO / "docs/elsewhere"
JOB, SKY, KAGGLE = (FOLDER / name for name in ("slurm.sbatch", "sky.yaml", "kaggle_run.py"))
STARTS = ("python -m ", "dvc ", "make ", "sbatch ")


def sky() -> dict:
    return yaml.safe_load(SKY.read_text(encoding="utf-8"))


def fenced(page: Path) -> list[str]:
    """The lines of a page's blocks of shell commands; those that go on are joined."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def commands(lines: list[str]) -> list[list[str]]:
    """The words of those commands in lines of shell that are the project's, DVC's or make's."""
    parts = [part.strip() for line in lines for part in re.split(r"&&|\|\||[;&|](?!\w)", line)]
    bare = [re.sub(r"^(export )?(\w+=\S+ )*(\.venv/bin/)?", "", part) for part in parts]
    return [shlex.split(part, comments=True) for part in bare if part.startswith(STARTS)]


def scripts() -> dict[str, list[list[str]]]:
    """The commands of each file, and of the page about them."""
    text = sky()
    return {
        "slurm.sbatch": commands(JOB.read_text(encoding="utf-8").splitlines()),
        "sky.yaml": commands((text["setup"] + text["run"]).splitlines()),
        "kaggle_run.py": [command.split() for command in kaggle_run.COMMANDS],
        "elsewhere.md": commands(fenced(FOLDER.with_suffix(".md"))),
        "README.md": commands(fenced(REPO / "README.md")),
    }


def check(words: list[str]) -> None:
    """Whether a command is there to be called."""
    if words[0] == "make":
        made = subprocess.run(["make", "-n", *words[1:]], cwd=REPO, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
    elif words[0] == "sbatch":
        assert (REPO / words[1]).is_file()
    elif words[0] == "dvc":
        get_main_parser().parse_args(words[1:])
    elif words[2] != "pip":
        assert (REPO / f"{words[2].replace('.', '/')}.py").is_file(), words


@pytest.mark.parametrize(
    "name", ["slurm.sbatch", "sky.yaml", "kaggle_run.py", "elsewhere.md", "README.md"]
)
def test_every_command_of_a_file_is_there_to_be_called(name):
    found = scripts()[name]
    assert len(found) >= 3
    for words in found:
        check(words)


def test_a_command_that_is_not_there_is_found():
    wrong = commands(["dvc nothing", "make nothing", "python -m stages.nothing", "ls"])
    assert len(wrong) == 3
    for words in wrong:
        with pytest.raises((AssertionError, DvcParserError)):
            check(words)


def test_every_setting_is_one_of_params_yaml():
    raw = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    found = [words for name, words in scripts().items() if name != "README.md"]
    texts = [sky()["envs"]["SETTINGS"].split(), *itertools.chain(*found)]
    given = [b for words in texts for a, b in itertools.pairwise(words) if a == "-S"]
    assert len(given) >= 6
    for setting in given:
        key, value = setting.split("=", 1)
        *sections, last = key.split(".")
        place = raw
        for section in sections:
            place = place[section]
        assert last in place
        Params.model_validate(raw if sections else raw | {last: value})


@pytest.mark.parametrize("script", [JOB.read_text("utf-8"), sky()["setup"], sky()["run"]])
def test_shell_is_shell(script):
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_slurm_reads_its_options_before_the_first_command():
    lines = JOB.read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert options and max(options) < first
    assert lines[0] == "#!/usr/bin/env bash"


def test_a_job_without_a_name_and_settings_says_how_it_is_submitted():
    done = subprocess.run(["bash", str(JOB), "gemma"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("usage: sbatch docs/elsewhere/")


def test_every_variable_that_sky_s_commands_read_is_set():
    text = sky()
    for part in ("setup", "run"):
        read = set(re.findall(r"\$(\w+)", text[part]))
        assert read - {"PWD", "PATH"} <= set(text["envs"])


def test_the_script_for_kaggle_needs_nothing_but_python():
    tree = ast.parse(KAGGLE.read_text(encoding="utf-8"))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert names <= {"os", "shutil", "subprocess", "pathlib"}


def test_the_script_for_kaggle_runs_its_commands_and_keeps_what_they_leave(tmp_path, monkeypatch):
    """With a repository in which every command writes what it was called with."""
    origin, work, output = (tmp_path / name for name in ("origin", "work", "output"))
    for name in ("metrics", "models", "data/evaluated"):
        (origin / name).mkdir(parents=True)
        (origin / name / "kept").touch()
    for name in ("params.yaml", "dvc.lock", "submission.csv"):
        (origin / name).touch()
    fakes = origin / ".venv/bin"
    fakes.mkdir(parents=True)
    for name in ("make", "dvc", "python"):
        (fakes / name).write_text(
            f'#!/bin/sh\necho {name} "$@" $GIT_AUTHOR_NAME >> metrics/calls\n'
        )
        (fakes / name).chmod(0o755)
    who = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-qm", "start")):
        subprocess.run(["git", *who, *arguments], cwd=origin, check=True)
    for name, value in (("REPOSITORY", str(origin)), ("WORK", work), ("OUTPUT", output)):
        monkeypatch.setattr(kaggle_run, name, value)
    output.mkdir()
    kaggle_run.main()
    calls = (output / "metrics/calls").read_text(encoding="utf-8").splitlines()
    assert calls == [f"{command} kaggle" for command in kaggle_run.COMMANDS]
    assert {"models", "evaluated", "params.yaml", "submission.csv"} <= {
        path.name for path in output.iterdir()
    }


# The image


def test_the_dockerfile_copies_what_it_names_and_makes_a_target_that_is_there():
    text = (REPO / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    (copied,) = re.findall(r"^COPY \S+ (.+) \./$", text, re.MULTILINE)
    assert all((REPO / name).is_file() for name in copied.split())
    (target,) = re.findall(r"^RUN make (\S+)$", text, re.MULTILINE)
    check(["make", target])
    needed = re.findall(r"^\.venv/installed-dev: (.+) \|", (REPO / "Makefile").read_text(), re.M)
    assert set(needed[0].split()) <= set(copied.split())


def test_the_image_has_git_s_folder_and_no_environment_of_this_machine():
    ignored = (REPO / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {".venv", ".state", ".dvc/cache", ".dvc/config.local"} <= set(ignored)
    assert ".git" not in ignored
