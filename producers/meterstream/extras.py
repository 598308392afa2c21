"""Packages that an extra brings: what to install, said where one is missing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def needs(extra: str, user: str) -> Generator[None]:
    """Around imports: an `ImportError` of them says that module ``user`` needs ``extra``."""
    try:
        yield
    except ImportError as problem:
        kind = ModuleNotFoundError if isinstance(problem, ModuleNotFoundError) else ImportError
        raise kind(
            f"{user} {remedy(extra)} ({problem})", name=problem.name, path=problem.path
        ) from problem


def remedy(extra: str) -> str:
    """The words."""
    return f"needs pip install 'meterstream[{extra}]'"


def is_installed(package: str) -> bool:
    """Whether a top-level package could be imported. Does not import it."""
    # Imported here: asked rarely, and not by every host.
    from importlib.util import find_spec  # noqa: PLC0415

    try:
        return find_spec(package) is not None
    except ImportError:
        return False
    except ValueError:  # A module that somebody put together by hand.
        return True
