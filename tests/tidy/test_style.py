"""The style of this repository, as far as a test can hold it."""

from __future__ import annotations

import ast
import re
from typing import Final

from tests.tidy.sources import Module, modules, modules_of_tests, package_modules

MODULE_LINES_MAX: Final = 350
TEST_MODULE_LINES_MAX: Final = 450
FUNCTION_LINES_MAX: Final = 50

_BANNER: Final = re.compile(r"^\s*#\s*[-=*#~─═]{3,}")
_SUPPRESSION: Final = re.compile(
    r"#\s*(?:noqa|type|pyright): (?:ignore\[)?(?P<rule>[A-Z]+\d+|[a-zA-Z-]+(?=\]))\]?(?P<rest>.*)$"
)
_WORDS: Final = re.compile(r"[a-z]{2}")
# Modules of the aggregator that stand at a door: they may ask the world.
_DOORS: Final = ("aggregator/meterstream_aggregator/store/",)
_CLOCK_CALLS: Final = {"now", "utcnow", "today", "monotonic", "perf_counter", "time_ns"}


def test_modules_are_short() -> None:
    """A module holds one idea: 350 lines are enough for it, 450 for tests."""
    long = [
        f"{module.path}: {lines} lines"
        for module in modules()
        if (lines := module.text.count("\n"))
        > (TEST_MODULE_LINES_MAX if module.path.startswith("tests/") else MODULE_LINES_MAX)
    ]

    assert not long, "\n".join(long)


def test_functions_are_short() -> None:
    """A function fits a screen: a body of at most 50 lines."""
    long = [
        f"{module.path}:{function.lineno}: {function.name} has {lines} lines"
        for module in package_modules()
        for function in module.functions()
        if (lines := _lines(function)) > FUNCTION_LINES_MAX
    ]

    assert not long, "\n".join(long)


def test_modules_say_what_they_are_for() -> None:
    """Each module opens with a sentence: a capital, a full stop or colon, one line."""
    silent = [
        module.path
        for module in modules()
        if module.text.strip() and not re.match(r"[^a-z\n].*[.:]$", _first_line(module.docstring))
    ]

    assert not silent, "\n".join(silent)


def test_tests_state_a_behaviour() -> None:
    """Each test has a docstring that is a sentence."""
    silent = [
        f"{module.path}:{function.lineno}: {function.name}"
        for module in modules_of_tests()
        for function in module.functions()
        if function.name.startswith("test_")
        and not re.search(r"[.!]$", (ast.get_docstring(function) or "").strip())
    ]

    assert not silent, "\n".join(silent)


def test_modules_are_split_not_decorated() -> None:
    """No banner comments: a part that needs one is a module of its own."""
    banners = [
        f"{module.path}:{number}"
        for module in modules()
        for number, line in enumerate(module.text.splitlines(), start=1)
        if _BANNER.match(line)
    ]

    assert not banners, "\n".join(banners)


def test_suppressions_have_a_reason() -> None:
    """A rule silenced in a module is explained there: behind one of the places, or above it."""
    bare: list[str] = []
    for module in modules():
        lines = module.text.splitlines()
        places: dict[str, int] = {}
        explained: set[str] = set()
        for number, line in enumerate(lines, start=1):
            if silenced := _SUPPRESSION.search(line):
                rule = silenced["rule"]
                places.setdefault(rule, number)
                if _WORDS.search(silenced["rest"]) or _WORDS.search(_comment_above(lines, number)):
                    explained.add(rule)
        bare += [f"{module.path}:{places[rule]}: {rule}" for rule in places.keys() - explained]

    assert not bare, "\n".join(bare)


def test_core_asks_no_clock() -> None:
    """Below the stores, the aggregator gets the time as a parameter."""
    asking = [
        f"{module.path}:{node.lineno}: {node.func.attr}()"
        for module in package_modules()
        if module.path.startswith("aggregator/") and not module.path.startswith(_DOORS)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _CLOCK_CALLS
    ]

    assert not asking, "\n".join(asking)


def test_modules_postpone_annotations() -> None:
    """Each module with code starts by postponing the evaluation of annotations."""
    without = [module.path for module in modules() if _has_code(module) and not _postpones(module)]

    assert not without, "\n".join(without)


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body: a signature declares, a docstring explains."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or function.lineno) - body[0].lineno + 1 if body else 0


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0]


def _comment_above(lines: list[str], number: int) -> str:
    """The comment that ends just above a line; its statement may have begun a few lines up."""
    for line in reversed(lines[max(0, number - 4) : number - 1]):
        if line.lstrip().startswith("#"):
            return line
    return ""


def _has_code(module: Module) -> bool:
    return any(not isinstance(node, ast.Expr) for node in module.tree.body)


def _postpones(module: Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(name.name == "annotations" for name in node.names)
        for node in module.tree.body
    )
