"""Runs a document's snippets in one namespace, statement by statement, and says what each did.

A program of its own, since the packages that it drives may clash with those of the tests. Told on
stdin::

    {"mark": URL, "prelude": CODE, "snippets": [CODE, ...], "asked": {LINE: {NAME: EXPRESSION}}}

The mark is asked behind each statement, and again behind the expressions that are asked of it:
those that stand under the statement's first line. A statement that raises does not keep the next
ones. Says one JSON list of statements for each snippet, on the last line.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import sys
import urllib.request
import warnings
from typing import Any


def run(tree: ast.Module, names: dict[str, Any]) -> None:
    """Execute code that may await at its top level."""
    compiled = compile(tree, "<snippet>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(compiled, names)
    if compiled.co_flags & inspect.CO_COROUTINE:
        asyncio.run(result)


def first_line(statement: ast.stmt, lines: list[str]) -> str:
    """Where a statement begins, its decorators included."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return lines[min([statement.lineno, *(each.lineno for each in decorators)]) - 1].strip()


def did(statement: ast.stmt, names: dict[str, Any]) -> str | None:
    """Execute one statement; what it raised."""
    try:
        run(ast.Module([statement], []), names)
    except Exception as problem:  # noqa: BLE001 - whatever a package raises is told
        return f"{type(problem).__name__}: {problem}"
    return None


def told_of(
    statement: ast.stmt, mark: str, asked: dict[str, str], names: dict[str, Any]
) -> dict[str, Any]:
    """What a statement printed and raised, what was asked behind it, and what nobody awaited."""
    printed = io.StringIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.redirect_stdout(printed):
            raised = did(statement, names)
        urllib.request.urlopen(mark, timeout=30).close()
        values = {name: str(eval(text, names)) for name, text in asked.items()}
        urllib.request.urlopen(mark, timeout=30).close()
    told = [str(each.message) for each in caught if "never awaited" in str(each.message)]
    return {
        "printed": printed.getvalue(),
        "raised": raised,
        "never_awaited": [text.split("'")[1] for text in told],
        "values": values,
    }


def main() -> None:
    """One list, on the last line."""
    program = json.load(sys.stdin)
    names: dict[str, Any] = {"__name__": "__main__"}
    run(ast.parse(program["prelude"]), names)
    told = list[list[dict[str, Any]]]()
    for code in program["snippets"]:
        told.append([])
        for statement in ast.parse(code).body:
            line = first_line(statement, code.splitlines())
            asked = program["asked"].get(line, {})
            told[-1].append({"line": line} | told_of(statement, program["mark"], asked, names))
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
