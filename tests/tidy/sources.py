"""What the tidy tests look at: the files of this repository, and the syntax of its modules."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = (
    "schemas/meterstream_schemas",
    "producers/meterstream",
    "aggregator/meterstream_aggregator",
    "consumers/meterstream_consumers",
    "services/meterstream_services",
    "infra/meterstream_infra",
)


class Module(NamedTuple):
    """One Python file: its path from the root, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def docstring(self) -> str:
        """The module's own, empty where there is none."""
        return ast.get_docstring(self.tree) or ""

    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method, nested ones too."""
        nodes = ast.walk(self.tree)
        return [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@cache
def files() -> list[Path]:
    """Every file that belongs to the repository: what git knows, or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / name for name in sorted(set(listed.split("\0"))) if (ROOT / name).is_file()]


@cache
def modules() -> list[Module]:
    """Every Python file of the repository."""
    found: list[Module] = []
    for path in files():
        if path.suffix == ".py":
            text = path.read_text("utf-8")
            found.append(Module(path.relative_to(ROOT).as_posix(), text, ast.parse(text)))
    return found


def package_modules() -> list[Module]:
    """The modules that are shipped."""
    return [module for module in modules() if module.path.startswith(PACKAGES)]


def modules_of_tests() -> list[Module]:
    """The modules of tests."""
    return [module for module in modules() if module.path.startswith("tests/")]
