"""Logs on standard error: one line a fact, as text for people or as JSON for machines.

A line has ``timestamp`` (ISO 8601, UTC, microseconds), ``level``, ``event`` (what happened, in
words that stay the same) and the fact's own fields; ``process`` says which part speaks, ``logger``
is there for lines of libraries. Tracebacks are a field, so a line of JSON stays one line; as text
they follow it. They never hold the values of variables. docs/on-call.md lists the fields.

Secrets are masked wherever they stand: fields named like one, passwords in addresses, webhook
secrets and keys.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

_MASK: Final = "***"
_SECRET_FIELD: Final = re.compile(
    r"password|passwd|secret|token|credential|authorization|api_?key|signature", re.IGNORECASE
)
_SECRET_VALUES: Final = (
    (re.compile(r"(://[^/\s:@]*):[^/\s@]+@"), rf"\1:{_MASK}@"),
    (re.compile(r"whsec_[A-Za-z0-9+/=]+"), f"whsec_{_MASK}"),
    (re.compile(r"\b(mk_[a-z]+_[A-Za-z0-9]{8})_[A-Za-z0-9]+"), rf"\1_{_MASK}"),
    (
        re.compile(r"(?i)\b((?:\w+[._-])*(?:password|secret|token))(['\"]?\s*[=:]\s*)[^\s,;&]+"),
        rf"\1\2{_MASK}",
    ),
)


def configure(as_json: bool, *, process: str = "") -> structlog.stdlib.BoundLogger:
    """Set the process's logs up, those of libraries included; the logger to begin with.

    Libraries are heard from WARNING on, ``meterstream`` from INFO on.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Named(process),
    ]
    # Plain tracebacks, made before secrets are masked. The pretty ones show the values of all
    # variables, headers among them, and take seconds to draw while everybody else waits.
    renderer: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        mask,
        structlog.processors.JSONRenderer(default=str)
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    ]
    structlog.configure(
        processors=[*shared, *renderer],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("meterstream").setLevel(logging.INFO)
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger


class _Named:
    """Says which process speaks, where that is known and the line does not say it itself."""

    def __init__(self, process: str) -> None:
        self._process = process

    def __call__(
        self, _logger: object, _method: str, fields: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        if self._process:
            fields.setdefault("process", self._process)
        return fields


def mask(
    _logger: object, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Put ``***`` in place of every secret of a line."""
    for name, value in fields.items():
        if _SECRET_FIELD.search(name):
            fields[name] = _MASK
        elif isinstance(value, str):
            fields[name] = masked(value)
    return fields


def masked(text: str) -> str:
    """A text without what looks like a secret in it."""
    for pattern, replacement in _SECRET_VALUES:
        text = pattern.sub(replacement, text)
    return text
