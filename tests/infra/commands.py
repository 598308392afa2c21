"""Command lines and variables, held to the program that takes them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer.main
from typer.core import TyperGroup

from meterstream_services.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parents[2]
_SOURCES: Final = ("schemas", "producers", "aggregator", "consumers", "services", "infra")


def accept(words: Sequence[str]) -> None:
    """Parse a command line, its program left out, as the program would; raises as it does."""
    program = typer.main.get_command(app)
    assert isinstance(program, TyperGroup)
    with program.make_context("meterstream", list(words)) as context:
        name, command, rest = program.resolve_command(context, list(words))
        assert command is not None
        while isinstance(command, TyperGroup):
            with command.make_context(name, rest, parent=context) as group:
                name, command, rest = command.resolve_command(group, rest)
                assert command is not None
        command.make_context(name, rest, parent=context).close()


@cache
def _sources() -> str:
    files = (path for root in _SOURCES for path in (ROOT / root).rglob("*.py"))
    return "\n".join(path.read_text("utf-8") for path in files)


def is_read(variable: str) -> bool:
    """Whether any module names this variable, or the one that a file of that name stands for."""
    names = {variable, variable.removesuffix("_FILE")}
    return any(f'"{name}"' in _sources() for name in names)
