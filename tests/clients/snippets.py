"""The snippets of the published documents, run in the published packages as they stand there.

Nothing in them is changed but the client's own configuration, which a test names piece by piece. A
program of its own runs them (`snippet_program`), and all its requests go by a `Way` that sees them.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.clients.losing import MARK
from tests.clients.published import run_published
from tests.compat import documents

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.clients.losing import Way

_PROGRAM: Final = Path(__file__).with_name("snippet_program.py").read_text("utf-8")


class Done(NamedTuple):
    """What one statement did. ``asked`` are the requests of the expressions asked behind it."""

    line: str
    printed: str
    raised: str | None
    never_awaited: list[str]
    values: dict[str, str]
    requests: list[str]
    asked: list[str]


class Ran(NamedTuple):
    """What a snippet did, statement by statement, the failed ones among them."""

    heading: str
    statements: list[Done]

    @property
    def printed(self) -> str:
        """Its output."""
        return "".join(each.printed for each in self.statements)

    @property
    def requests(self) -> list[str]:
        """``METHOD /path``, in their order."""
        return [request for each in self.statements for request in each.requests]

    @property
    def raised(self) -> dict[str, str]:
        """What went wrong, by the first line of the statement."""
        return {each.line: each.raised for each in self.statements if each.raised is not None}

    @property
    def never_awaited(self) -> list[str]:
        """Coroutines that were made and thrown away."""
        return [name for each in self.statements for name in each.never_awaited]

    @property
    def values(self) -> dict[str, str]:
        """What the expressions that were asked came to, as text."""
        return {name: text for each in self.statements for name, text in each.values.items()}


def published_snippets(name: str) -> list[documents.Snippet]:
    """All Python of a document, importing the client by the name that the document has."""
    return [
        each._replace(code=each.code.replace(f"meterstream.compat.{name}", name))
        for each in documents.snippets(name)
    ]


def configured(
    snippets: Sequence[documents.Snippet], changes: Mapping[str, str]
) -> list[documents.Snippet]:
    """The snippets with other configuration in them. Every change must find its place."""
    found = list(snippets)
    for old, new in changes.items():
        assert any(old in each.code for each in found), f"no snippet has {old!r}"
        found = [each._replace(code=each.code.replace(old, new)) for each in found]
    return found


def run_snippets(
    directory: Path | None,
    snippets: Sequence[documents.Snippet],
    *,
    way: Way,
    prelude: str = "",
    asked: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Ran]:
    """Run them in one namespace. ``asked``: expressions by the line that they are asked behind."""
    told = {
        "mark": way.url + MARK,
        "prelude": prelude,
        "snippets": [each.code for each in snippets],
        "asked": asked or {},
    }
    way.seen.clear()
    # Local times, which one of the packages sends, are to be UTC.
    ran = run_published(directory, _PROGRAM, environment={"TZ": "UTC"}, told=json.dumps(told))
    parts = iter(way.parts())
    return [
        Ran(
            snippet.heading,
            [Done(**each, requests=next(parts), asked=next(parts)) for each in statements],
        )
        for snippet, statements in zip(snippets, ran, strict=True)
    ]


def shell_of(name: str) -> list[str]:
    """What a document shows for a shell, block by block."""
    text = (documents.SEEDS / f"{name}.md").read_text("utf-8")
    if name in {"agentmeter", "stripemeter"}:
        return re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = re.compile(r"(?:^(?:# (?:Required|Optional)|[A-Z_]+=.*|)\n)+", re.MULTILINE)
    settings = [each for each in lines.findall(text) if "=" in each]
    return [*re.findall(r"pip install [a-z-]+(?=Requires|\n)", text), *settings]


def environment_of(block: str) -> dict[str, str]:
    """The variables that a shell has after a block of assignments."""
    script = f"set -a\n{block}\nenv -0"
    done = subprocess.run(["sh", "-c", script], env={}, capture_output=True, text=True, check=True)
    pairs = (entry.split("=", 1) for entry in done.stdout.split("\0") if entry)
    return {name: value for name, value in pairs if name not in {"PWD", "SHLVL", "_"}}
