"""What stands in for the outside in tests of the compatibility modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meterstream.compat.usage_api import Json, Parameters, UsageRefused

Answer = Callable[[Mapping[str, Sequence[str]]], Json]
"""From a question's parameters, each with all its values, to the answer's JSON."""


class FakeUsage:
    """A usage API that answers from functions by path, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, Mapping[str, Sequence[str]]]] = []

    def get(self, path: str, params: Parameters = ()) -> Json:
        """The answer set for the path; 404 where there is none."""
        parameters: dict[str, list[str]] = {}
        for name, value in params:
            parameters.setdefault(name, []).append(value)
        self.asked.append((path, parameters))
        if path not in self.answers:
            raise UsageRefused(404, f"there is nothing at {path!r}")
        return self.answers[path](parameters)


def usage_answer(*rows: Mapping[str, Any], meter: str = "m", unit: str = "") -> dict[str, Any]:
    """An answer of ``GET /v1/usage`` with these rows; what a row does not say is filled in."""
    return {
        "meter": meter, "unit": unit, "from": "", "to": "", "every": "total", "zone": "UTC",
        "rows": [{"group": {}, "events": 1, "status": "open", **row} for row in rows],
    }  # fmt: skip


def climeter_names() -> dict[str, Any]:
    """What CLIMeter's document leaves undefined: the functions that its examples meter."""

    async def later(*_: object) -> list[str]:
        return ["found"]

    def now(*_: object) -> list[str]:
        return ["found"]

    return {
        "run_search": now, "async_search": later, "run_pdf_analysis": now, "run_batch": later,
        "my_tool": now, "query": "needle", "queries": ["needle"],
    }  # fmt: skip
