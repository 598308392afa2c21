"""The commands of docs/http-api.md do what the page shows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx

    from tests.unit.services.ingest.conftest import Gate

PAGE = Path(__file__).parents[4] / "docs/http-api.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def play(gate: Gate, command: str, files: dict[str, str]) -> httpx.Response:
    """A curl command, as a request without a network."""
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
                data.append(files[next(words).removeprefix("@")])
            case _:
                url = word
    path = urlsplit(url).path
    if is_query:
        params = dict(part.split("=", 1) for part in data)
        return gate.send("GET", path, params=params, headers=headers)
    if not data:
        return gate.send("GET", path, headers=headers)
    (body,) = data
    return gate.send("POST", path, content=body.encode(), headers=headers)


def test_the_page_is_played(gate: Gate) -> None:
    """Every command is sent in its order, and answered as the block behind it says."""
    answer: httpx.Response | None = None
    files: dict[str, str] = {}
    played = shown = 0
    for kind, block in BLOCK.findall(PAGE.read_text("utf-8")):
        if kind == "sh":
            answer = play(gate, block, files)
            assert answer.status_code < 300, answer.text
            played += 1
        elif answer is None or (kind == "jsonl" and not files):
            files["events.jsonl"] = block
        else:
            assert read(kind, answer.text) == read(kind, block)
            shown += 1

    assert (played, shown) == (9, 8)


def read(kind: str, text: str) -> object:
    """JSON, or lines of it."""
    return [json.loads(line) for line in text.splitlines()] if kind == "jsonl" else json.loads(text)
