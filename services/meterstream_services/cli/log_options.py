"""How processes log: ``--log-format``, or METERSTREAM_LOG_FORMAT for all of them at once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

import typer

VARIABLE: Final = "METERSTREAM_LOG_FORMAT"


class LogFormat(StrEnum):
    """Of log lines: for people, or one JSON object each."""

    TEXT = "text"
    JSON = "json"


LogFormatOption = Annotated[
    LogFormat, typer.Option("--log-format", envvar=VARIABLE, help="How log lines are written.")
]


def as_json(log_format: LogFormat, *, asked: bool = False) -> bool:
    """Whether to log as JSON; ``asked`` is a flag that means the same.

    What was chosen is in the environment from now on: for processes that this one starts, and for
    its own last sentence.
    """
    chosen = LogFormat.JSON if asked else log_format
    os.environ[VARIABLE] = chosen.value
    return chosen is LogFormat.JSON


def line(
    sentence: str,
    *,
    level: str = "info",
    process: str = "",
    environment: Mapping[str, str] = os.environ,
) -> str:
    """A sentence as it is written: after ``meterstream: ``, or as a line of JSON."""
    if environment.get(VARIABLE) != LogFormat.JSON:
        return f"meterstream: {sentence}"
    told = {"event": sentence, "level": level, "timestamp": _now()}
    return json.dumps(told | ({"process": process} if process else {}))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
