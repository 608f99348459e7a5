"""The house: imports point one way, dvc.yaml lists what its stages import, and nothing is long."""

import re
from pathlib import Path

import pytest
import yaml

from stages.config import paths
from tests.support.modules import closure, functions, imports, lines, modules
from tests.support.places import REPO

PIPELINE = yaml.safe_load((REPO / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# Params are listed by dvc.yaml key by key; paths and errors change no number.
EXEMPT = ("stages/__init__.py", "stages/config/")
STAGES = modules("stages")
RUN = {name for name, path in STAGES.items() if path.parent == Path("stages")} - {"stages"}
# Of stages.config.paths: what is read, or written by a command that is no stage.
NOT_OF_A_STAGE = {"PARAMS", "PIPELINE", "LOCK", "COMPARISON", "RATINGS", "BLENDS", "BLEND"}
NOT_OF_A_STAGE |= {"TUNING", "SETTLED", "REFIT_FACTS", "PLAN"}


def imported(stage: str) -> set[str]:
    """Files of the modules that a stage imports, itself among them."""
    module = re.match(r"python -m (\S+)", PIPELINE[stage]["cmd"])[1]
    files = {str(STAGES[name]) for name in closure(module, STAGES)}
    return {file for file in files if not file.startswith(EXEMPT)}


def listed(stage: str) -> set[str]:
    """The files and folders of code that dvc.yaml lists for a stage."""
    return {dep for dep in PIPELINE[stage]["deps"] if dep.startswith("stages/")}


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


def outs() -> set[Path]:
    """What dvc.yaml says that the stages write, for fold 0 and the first auxiliary file."""
    found = [
        out if isinstance(out, str) else next(iter(out))
        for stage in PIPELINE.values()
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]
    ]
    first = {"${item.fold}": "0", "${key}": "file0"}
    for name, value in first.items():
        found = [out.replace(name, value) for out in found]
    return set(map(Path, found))


def written() -> dict[str, Path]:
    """The paths that stages write, by their names in stages.config.paths."""
    fixed = {
        name: value
        for name, value in vars(paths).items()
        if isinstance(value, Path) and name not in NOT_OF_A_STAGE
    }
    by_fold = (
        paths.adapter,
        paths.predictions,
        paths.summary,
        paths.curves,
        paths.teacher,
        paths.teacher_facts,
    )
    of_fold = {function.__name__: function(0) for function in by_fold}
    lessons = {f"lessons/{kind}": paths.lesson(kind, "file0") for kind in ("pairs", "predictions")}
    return fixed | of_fold | lessons | {"auxiliary": paths.auxiliary("file0")}


# dvc.yaml


@pytest.mark.parametrize("stage", PIPELINE)
def test_dvc_yaml_lists_every_module_that_a_stage_imports_and_no_other(stage):
    needed, deps = imported(stage), listed(stage)
    missing = {file for file in needed if not any(covers(dep, file) for dep in deps)}
    assert not missing, f"add these, or their folders, to the deps of `{stage}` in dvc.yaml"
    unused = {dep for dep in deps if not any(covers(dep, file) for file in needed)}
    assert not unused, f"`{stage}` imports nothing of these: remove them from its deps in dvc.yaml"


def test_what_training_depends_on_holds_nothing_that_training_does_not_import():
    """A change there trains every backbone again."""
    needed = imported("train")
    there = {
        str(path)
        for path in STAGES.values()
        if any(covers(dep, str(path)) for dep in listed("train"))
    }
    assert not there - needed, "move these to a room that `train` does not depend on"


def test_every_path_that_a_stage_writes_is_an_out_of_dvc_yaml():
    known = outs()
    for name, path in written().items():
        own = path in known or any(path.is_relative_to(out) for out in known)
        folder_of_outs = any(out.is_relative_to(path) for out in known)
        assert own or folder_of_outs, f"paths.{name}, {path}, is no out of dvc.yaml"


def test_every_out_of_dvc_yaml_is_named_by_a_path():
    named = written().values()
    for out in outs():
        assert any(path.is_relative_to(out) for path in named), f"{out} is not in config/paths.py"


# Imports


def test_what_one_runs_is_imported_by_tests_alone():
    for name, path in modules("stages", "bench").items():
        found = imports(path) & RUN - {name}
        assert not found, f"{path} imports {found}: move what they share into a room"


def test_imports_are_not_circular():
    known = modules("stages", "bench")
    for name in known:
        others = imports(known[name]) & known.keys() - {name}
        circle = [other for other in others if name in closure(other, known)]
        assert not circle, f"{name} and {circle} import each other"


def test_tests_share_only_what_lies_in_support():
    tests = modules("tests")
    for path in tests.values():
        found = {name for name in imports(path) & tests.keys() if ".support" not in name}
        assert not found, f"{path}: move what it takes from {found} to tests/support"


# Lengths


def test_a_module_has_at_most_350_lines():
    found = {str(path): lines(path) for path in modules("stages", "bench").values()}
    assert not {path: count for path, count in found.items() if count > 350}


def test_a_file_that_one_runs_has_fewer_than_80_lines():
    found = {name: lines(STAGES[name]) for name in RUN}
    assert not {name: count for name, count in found.items() if count >= 80}


def test_a_function_has_at_most_50_lines():
    found = [functions(path) for path in modules("stages", "bench").values()]
    assert not {place: n for each in found for place, n in each.items() if n > 50}
