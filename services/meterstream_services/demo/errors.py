"""Errors of the demo."""

from __future__ import annotations


class DemoError(Exception):
    """The demo could not be carried through; the message is one sentence and where to look."""
