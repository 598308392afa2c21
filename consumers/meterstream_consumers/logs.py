"""Structured logs on standard error: one line a fact, JSON when asked for."""

from __future__ import annotations

import sys

import structlog


def configure(as_json: bool) -> structlog.stdlib.BoundLogger:
    """Set the process's log format up; the logger to begin with."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger
