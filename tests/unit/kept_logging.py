"""Logging is the process's own: whoever sets it up in a test leaves it as it was found."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def kept_logging() -> Generator[None]:
    """Put handlers, levels and structlog's configuration back behind the block."""
    root, ours = logging.getLogger(), logging.getLogger("meterstream")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    root.handlers = []  # `configure` closes those that it finds
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
        structlog.reset_defaults()
