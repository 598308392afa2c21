"""The examples of the page on web and procedure call frameworks run as they are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[4] / "docs" / "integrations-web.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_an_example_runs(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own assertions hold."""
    names: dict[str, Any] = {"__name__": f"example_{number}"}
    try:
        exec(compile(BLOCKS[number], f"{PAGE.name} example {number}", "exec"), names)
    finally:
        if "meter" in names:
            names["meter"].close(0)
    assert "assert " in BLOCKS[number] or capsys.readouterr().out == "0\n"


def test_every_hook_has_an_example() -> None:
    """So that none is left out when one is added."""
    for name in ("asgi", "wsgi", "fastapi", "flask", "celery", "grpc"):
        assert any(f"meterstream.integrations.{name} import" in block for block in BLOCKS)
