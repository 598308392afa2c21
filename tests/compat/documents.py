"""The snippets of the five published client documents, as they stand there.

Nothing in a snippet is changed but the line that imports the client. Where the page lost its line
breaks (Unimeter's), they are restored at the borders of statements, and nowhere else.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEDS: Final = Path(__file__).parents[2].parent / "shared" / "seeds"
NAMES: Final = ("climeter", "unimeter", "stripemeter", "meter_lib", "agentmeter")

_IMPORT: Final = re.compile(rf"^from ({'|'.join(NAMES)}) import", re.MULTILINE)
_CODE: Final = re.compile(
    r"\s|$|[#@)]|(from|import|def|async|with|class|if|else|for|try|await|return)\b"
    r"|[a-z_]+ ?=|[a-z_.]+\("
)
"""How a line of code begins, as far as these pages go; prose on them begins otherwise."""


class Snippet(NamedTuple):
    """A piece of Python from a document, and the heading that it stands under."""

    heading: str
    code: str


def snippets(name: str) -> list[Snippet]:
    """All Python of a document, in its order. Skips the test where the document is not there."""
    path = SEEDS / f"{name}.md"
    if not path.exists():
        pytest.skip(f"the document {name}.md is not here", allow_module_level=True)
    text = path.read_text("utf-8")
    return [
        Snippet(heading, _IMPORT.sub(r"from meterstream.compat.\1 import", code))
        for heading, code in _FINDERS[name](text)
    ]


def compiled(snippet: Snippet) -> Any:  # noqa: ANN401 - a code object
    """The snippet compiled; ``await`` may stand at its top level."""
    return compile(snippet.code, snippet.heading, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


async def execute(snippet: Snippet, namespace: dict[str, Any]) -> None:
    """Run a snippet in a namespace, which keeps what it defines."""
    code = compiled(snippet)
    result = eval(code, namespace)
    if code.co_flags & inspect.CO_COROUTINE:
        await result


def run(snippet: Snippet, namespace: dict[str, Any]) -> None:
    """`execute` from outside of any event loop."""
    code = compiled(snippet)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(execute(snippet, namespace))
    else:
        eval(code, namespace)


def _fenced(text: str) -> Iterator[tuple[str, str]]:
    heading = ""
    code: list[str] | None = None
    for line in text.splitlines():
        if code is None:
            heading = line.strip("# ") if line.startswith("#") else heading
            code = [] if line.startswith("```python") else None
        elif line.startswith("```"):
            yield heading, "\n".join(code) + "\n"
            code = None
        else:
            code.append(line)


def _labelled(text: str) -> Iterator[tuple[str, str]]:
    """After a line that says just "Python", until prose begins."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line == "Python":
            yield _heading(lines, number), _code_from(lines, number + 1)


def _imported(text: str) -> Iterator[tuple[str, str]]:
    """From a paragraph that imports or calls the client, until prose begins."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        if re.match(r"from meter_lib import|result = ", lines[number]):
            code = _code_from(lines, number)
            yield _heading(lines, number), code
            number += code.count("\n")
        number += 1


def _code_from(lines: list[str], start: int) -> str:
    end = start
    while end < len(lines) and _CODE.match(lines[end]) and not _is_title(lines, end):
        end += 1
    return "\n".join(lines[start:end]).rstrip() + "\n"


def _is_title(lines: list[str], number: int) -> bool:
    """Whether a line that looks like code stands alone above prose: a heading named by a call."""
    around = lines[number - 1 : number + 3]
    return (
        len(around) == 4
        and not around[0]
        and bool(around[1])
        and not around[2]
        and not _CODE.match(around[3])
    )


def _heading(lines: list[str], number: int) -> str:
    """The nearest line above that stands alone, is short and ends no sentence."""
    for above in range(number - 1, 0, -1):
        line, before, after = lines[above], lines[above - 1], lines[above + 1]
        if line and not before and not after and len(line) < 60 and line[-1] not in ".:":
            return line
    return ""


_PROSE: Final = re.compile(r"((?<=\))|(?<=15th)|(?<=\.\.\.))(?=[A-Z][a-z])")
"""Where prose was joined to the end of code: a capital right behind it."""
_JOINTS: Final = (
    (re.compile(r"(\))(?=await |print\(|for |except |# \.)"), r"\1\n"),
    (re.compile(r"(\.\.\.)(?=await )"), r"\1\n"),
    (re.compile(r"(month|15th)(?=(last|current)_\w+\()"), r"\1\n"),
    (re.compile(r"(starts)(?=\)\))"), r"\1\n"),
    (re.compile(r"(:) (?=await |print\(|#)"), r"\1\n    "),
    (re.compile(r"(\)|retry\.) (?=await )"), r"\1\n    "),
    (re.compile(r"(ready to use) (?=\.\.\.)"), r"\1\n    "),
)
"""Where statements, or a comment and a statement, were joined to one line."""


def _flattened(text: str) -> Iterator[tuple[str, str]]:
    """Unimeter's page: one line a statement or several, with prose joined to the last."""
    begins = re.compile(r"(from unimeter|async with|client =|await |schemas =|result =|agg =|try:)")
    heading, code = "", ""
    for line in text.splitlines():
        if line.startswith("Section titled"):
            heading = line.partition("“")[2].partition("”")[0]
        elif code or begins.match(line):
            ended = _PROSE.search(line)
            code += (line[: ended.start()] if ended else line) + "\n"
            if ended:
                yield heading, _restored(code)
                code = ""


def _restored(code: str) -> str:
    for joint, border in _JOINTS:
        code = joint.sub(border, code)
    return code


_FINDERS: Final = {
    "agentmeter": _fenced,
    "climeter": _labelled,
    "meter_lib": _imported,
    "stripemeter": _fenced,
    "unimeter": _flattened,
}
