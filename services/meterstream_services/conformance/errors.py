"""What can go wrong with a file of cases, and why a case is not judged."""

from __future__ import annotations


class CasesUnreadable(Exception):
    """The file is no list of cases. The message says where and why."""


class Skipped(Exception):
    """A case is not judged; the message is the reason, for the reader of the report."""
