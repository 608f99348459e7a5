"""The repository's own modules, and what they import, read from their source."""

import ast
from functools import cache
from pathlib import Path

from tests.support.places import REPO


@cache
def modules(*folders: str) -> dict[str, Path]:
    """Every module below the folders, by name; packages without code are left out."""
    files = (path for folder in folders for path in sorted((REPO / folder).rglob("*.py")))
    return {_name(path): path.relative_to(REPO) for path in files if _has_code(path)}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")


def _has_code(path: Path) -> bool:
    return path.name != "__init__.py" or len(_tree(path).body) > 1


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(module: Path) -> set[str]:
    """What a module imports, also within functions: of `from a import b`, a and a.b."""
    found = set()
    for node in ast.walk(_tree(REPO / module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: expected an absolute import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found | {parent for name in found for parent in _parents(name)}


def _parents(name: str) -> set[str]:
    """The packages that an import runs on its way."""
    parts = name.split(".")
    return {".".join(parts[:i]) for i in range(1, len(parts))}


def closure(module: str, known: dict[str, Path]) -> set[str]:
    """The known modules that a module imports, and those that they import in turn; itself too."""
    found, ahead = set(), {module}
    while ahead:
        name = ahead.pop()
        found.add(name)
        ahead |= (imports(known[name]) & known.keys()) - found
    return found


def functions(module: Path) -> dict[str, int]:
    """Lines of each function, by its place."""
    return {
        f"{module}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for node in ast.walk(_tree(REPO / module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def lines(module: Path) -> int:
    return len((REPO / module).read_text(encoding="utf-8").splitlines())
