"""What is imported is declared, and the lock file knows it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from tests.tidy.sources import PACKAGES, ROOT, Module, modules, package_modules

if TYPE_CHECKING:
    from collections.abc import Mapping

# Imported by their own name, brought and chosen by the dependency named here.
_BROUGHT_ALONG: Final = {
    "docker": "testcontainers",
    "httpx2": "anthropic",
    "starlette": "fastapi",
    "werkzeug": "flask",
}
_OWN_EXTRA: Final = {
    "producers/meterstream/gateway": "gateway",
    "producers/meterstream/metrics.py": "metrics",
    "producers/meterstream/compat/": "compat",
}
"""Parts of the SDK that nothing imports by default, and the extra that each needs."""
_HOOKS: Final = "producers/meterstream/integrations/"
"""Here every module has the extra of its own name."""
_PYTEST_PLUGIN: Final = "producers/meterstream/testing_plugin.py"
"""Loaded by pytest itself."""
_OURS: Final = {PurePosixPath(package).name for package in PACKAGES} | {"tests", "benchmarks"}


def test_imports_are_declared() -> None:
    """Every distribution that a module imports stands in pyproject.toml under its own name."""
    declared = {name for names in _declared().values() for name in names}

    undeclared = {
        f"{module.path}: {name}"
        for module in modules()
        for name in _distributions(module)
        if _BROUGHT_ALONG.get(name, name) not in declared
    }

    assert not undeclared, "\n".join(sorted(undeclared))


def test_shipped_packages_need_no_development_tool() -> None:
    """What is shipped imports nothing that only the extra ``dev`` brings."""
    declared = _declared()
    shipped = {name for extra, names in declared.items() if extra != "dev" for name in names}

    unshipped = {
        f"{module.path}: {name}"
        for module in package_modules()
        if module.path != _PYTEST_PLUGIN
        for name in _distributions(module)
        if _BROUGHT_ALONG.get(name, name) not in shipped
    }

    assert not unshipped, "\n".join(sorted(unshipped))


def test_sdk_and_schemas_need_the_base_only() -> None:
    """A host service that installs no extra can record usage; a hook needs its own extra alone."""
    declared = _declared()

    beyond = {
        f"{module.path}: {name}"
        for module in package_modules()
        if module.path.startswith(("producers/", "schemas/")) and module.path != _PYTEST_PLUGIN
        for name in _distributions(module)
        if _BROUGHT_ALONG.get(name, name)
        not in declared[""] | declared.get(_extra_of(module), set())
    }

    assert not beyond, "\n".join(sorted(beyond))


def test_lock_knows_every_dependency() -> None:
    """The lock file was made after the last dependency was declared."""
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    locked = {_normal(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}

    missing = {name for names in _declared().values() for name in names} - locked

    assert missing == set()


def _declared() -> dict[str, set[str]]:
    """Names of dependencies by extra; those of the base under the empty name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        extra: {_normal(re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]) for line in lines}
        for extra, lines in groups.items()
    }


def _extra_of(module: Module) -> str:
    """The extra that a part of the SDK needs; the base's empty name for all others."""
    if module.path.startswith(_HOOKS):
        return PurePosixPath(module.path).stem
    return next((extra for path, extra in _OWN_EXTRA.items() if module.path.startswith(path)), "")


@cache
def _known() -> Mapping[str, list[str]]:
    return packages_distributions()


def _distributions(module: Module) -> set[str]:
    """The distributions that a module's imports come from, the standard library left out."""
    tops: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            tops |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            tops.add(node.module.partition(".")[0])
    foreign = tops - sys.stdlib_module_names - _OURS
    return {_normal(_known().get(top, [top])[0]) for top in foreign}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
