"""Errors to one sentence and an exit status, at the edge of the command line.

A command raises the error of the package that found the fault; none of them is repeated here. The
packages are looked up among those already imported: an error of a package that is not imported
cannot have been raised.
"""

from __future__ import annotations

import errno
import sys
from typing import Final

FAILED: Final = 1
WRONG_ARGUMENTS: Final = 2

_TREES: Final = (
    ("meterstream_schemas.errors", "SchemaError"),
    ("meterstream_aggregator.errors", "AggregatorError"),
    ("meterstream_infra.errors", "InfraError"),
    ("meterstream_consumers.errors", "ConsumersError"),
    ("meterstream.errors", "MeterError"),
    ("meterstream_services.accounts.errors", "AccountsError"),
    ("meterstream_services.client", "ClientError"),
    ("meterstream_services.importer.errors", "ImporterError"),
    ("meterstream_services.directories", "UpError"),
    ("meterstream_services.demo.errors", "DemoError"),
)
_ARGUMENTS: Final = (
    ("meterstream_services.importer.errors", "MappingError"),
    ("meterstream_consumers.errors", "InvalidFix"),
    ("meterstream_consumers.errors", "InvalidGap"),
)
"""Errors of those that say that an argument was wrong."""


class CommandError(Exception):
    """What a command itself found wrong; ``status`` is the exit status."""

    def __init__(self, sentence: str, *, status: int = FAILED) -> None:
        super().__init__(sentence)
        self.status = status


def sentence_and_status(problem: Exception) -> tuple[str, int]:
    """What to tell the person at the terminal, and the exit status."""
    if isinstance(problem, CommandError):
        return str(problem), problem.status
    if _is(problem, "meterstream_services.client", "ApiRefused"):
        wrong = getattr(problem, "status", 0) in {400, 422}
        return str(problem), WRONG_ARGUMENTS if wrong else FAILED
    if any(_is(problem, module, name) for module, name in _ARGUMENTS):
        return str(problem), WRONG_ARGUMENTS
    if any(_is(problem, module, name) for module, name in _TREES):
        return str(problem), FAILED
    if isinstance(problem, OSError):
        return _of_the_system(problem), FAILED
    sentence = (
        f"a fault in meterstream itself, please report it: {type(problem).__name__}: {problem} "
        "(METERSTREAM_DEBUG=1 shows where)"
    )
    return sentence, FAILED


def _is(problem: Exception, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(problem, kind)


def _of_the_system(problem: OSError) -> str:
    where = f"{problem.filename}: " if problem.filename else ""
    if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{where}the disk is full; free some space and run the command again"
    return f"{where}{problem.strerror or problem}"
