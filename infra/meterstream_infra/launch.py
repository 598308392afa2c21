"""Turns itself into another program that ends when its parent does.

Run as a script, before the broker's JVM: ``python -I -S launch.py PARENT PROGRAM ARGUMENT...``. It
asks the kernel for a SIGTERM at the parent's death and then becomes the program, keeping its
process id. A trampoline, because code between fork and exec in a parent with threads may deadlock.

Linux only: elsewhere the program starts without the tie, and outlives a parent killed by SIGKILL.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program. Does not return."""
    parent, program = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        # The parent may have died before the call: then nobody would ever send the signal.
        if os.getppid() != parent:
            sys.exit(0)
    os.execv(program[0], program)  # noqa: S606 - becoming the program is the purpose


if __name__ == "__main__":
    main(sys.argv[1:])
