"""Published packages that clash with those installed here, each in a directory of its own.

They come from the package index once, into the virtual environment's own directory, and stay there.
Without the index and without such a directory a test that needs one fails with a sentence: nothing
is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEPT = Path(sys.prefix) / "published"
_INSTALL_SECONDS = 120


class NotInstalled(AssertionError):
    """A published package cannot be had."""


def published(name: str, version: str) -> Path:
    """The directory that a package is importable from, for PYTHONPATH. What it needs is not in it.

    Raises `NotInstalled`.
    """
    directory = _KEPT / f"{name}-{version}"
    if not directory.exists():
        _install(f"{name}=={version}", directory)
    return directory


def run_published(
    directory: Path | None,
    program: str,
    *,
    environment: Mapping[str, str],
    told: str = "",
    timeout_seconds: float = 120,
) -> Any:  # noqa: ANN401 - JSON may be anything
    """What a program prints as JSON on its last line; it sees the packages of the directory first.

    Without a directory it sees those that are installed here; ``told`` is its stdin. Fails with
    what it said where it ends badly.
    """
    known = {name: value for name, value in os.environ.items() if not name.endswith("_proxy")}
    path = {} if directory is None else {"PYTHONPATH": str(directory)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=known | path | dict(environment),
        input=told,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    assert done.returncode == 0, f"the program ended with {done.returncode}:\n{done.stderr}"
    return json.loads(done.stdout.strip().splitlines()[-1])


def _install(requirement: str, directory: Path) -> None:
    partial = directory.with_name(f"{directory.name}.{os.getpid()}.partial")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
            *("--disable-pip-version-check", "--target", str(partial), requirement),
        ],
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise NotInstalled(
            f"{requirement} is not in {directory} and cannot be installed there: the package index "
            f"must be reachable once.\n{done.stderr[-2000:]}"
        )
    try:
        partial.rename(directory)
    except OSError:  # Another run was faster.
        if not directory.exists():
            raise
