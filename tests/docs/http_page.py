"""The commands of docs/http-api.md, read as requests, and the answers that the page shows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs/http-api.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
FILE = "events.jsonl"


class Shown(NamedTuple):
    """One request of the page; ``answer`` is None where none is shown."""

    method: str
    path: str
    options: dict[str, Any]
    answer: object


def shown() -> Iterator[Shown]:
    """Every request of the page, in its order."""
    blocks = BLOCK.findall(PAGE.read_text("utf-8"))
    [file] = [before for (_, before), (_, after) in _pairs(blocks) if f"@{FILE}" in after]
    for (kind, command), (kind_behind, behind) in _pairs(blocks):
        if kind == "sh":
            is_answer = kind_behind in {"json", "jsonl"} and behind != file
            yield _request(command, file, read(behind) if is_answer else None)


def read(text: str) -> object:
    """JSON, or lines of it."""
    try:
        return json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]


def _pairs(
    blocks: list[tuple[str, str]],
) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Every block with the one behind it."""
    yield from zip(blocks, [*blocks[1:], ("", "")], strict=True)


def _request(command: str, file: str, answer: object) -> Shown:
    """A curl command with what it is told to send."""
    words = iter(shlex.split(command.replace("\\\n", " ")))
    assert next(words) == "curl"
    headers: dict[str, str] = {}
    data: list[str] = []
    url, is_query = "", False
    for word in words:
        match word:
            case "-s":
                continue
            case "-G":
                is_query = True
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "-d":
                data.append(next(words))
            case "--data-binary":
                assert next(words) == f"@{FILE}"
                data.append(file)
            case _:
                url = word
    path = urlsplit(url).path
    if is_query:
        params = dict(part.split("=", 1) for part in data)
        return Shown("GET", path, {"params": params, "headers": headers}, answer)
    if not data:
        return Shown("GET", path, {"headers": headers}, answer)
    (body,) = data
    return Shown("POST", path, {"content": body.encode(), "headers": headers}, answer)
