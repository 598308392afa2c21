"""Numbers of things in sentences for people."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """A number of things, by the word for one of them: ``1 spool``, ``2,000 spools``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
