"""The entry point of ``meterstream``: runs a command; what goes wrong becomes one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from meterstream_services import lifeline


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; its exit status: 0 done, 1 failed, 2 wrong arguments, 130 Ctrl-C.

    Errors become one sentence on stderr; ``METERSTREAM_DEBUG=1`` shows the traceback of any.
    """
    lifeline.hold_on()
    try:
        # Imported here: a bare SDK installation has no typer, and says so in a sentence.
        from meterstream_services.cli.app import app  # noqa: PLC0415 - loaded by its command
    except ModuleNotFoundError as problem:
        return _missing(problem)
    try:
        app(args=None if arguments is None else list(arguments), prog_name="meterstream")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as problem:
        return _missing(problem)
    except Exception as problem:  # noqa: BLE001 - the process edge: said and turned into a status
        return _failed(problem)
    return 0


def _missing(problem: ModuleNotFoundError) -> int:
    if _debugging() or (problem.name or "").startswith("meterstream"):
        raise problem
    print(
        f"meterstream: the package {problem.name} is not installed; the command line needs "
        "pip install 'meterstream[server]'",
        file=sys.stderr,
    )
    return 1


def _failed(problem: Exception) -> int:
    if _debugging():
        raise problem
    # Imported here: only a failure needs to know every kind of error.
    from meterstream_services.cli.failures import sentence_and_status  # noqa: PLC0415 - loaded by its command
    from meterstream_services.cli.log_options import line  # noqa: PLC0415 - loaded by its command

    sentence, status = sentence_and_status(problem)
    print(line(sentence, level="error"), file=sys.stderr)
    return status


def _debugging() -> bool:
    return os.environ.get("METERSTREAM_DEBUG", "") not in {"", "0"}


if __name__ == "__main__":
    sys.exit(main())
