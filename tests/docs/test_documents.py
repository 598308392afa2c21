"""What the documents show is tried: links lead somewhere, examples parse, commands are accepted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer.main
from typer.core import TyperGroup

from meterstream_aggregator.catalogue_file import load_catalogue, parse_catalogue
from meterstream_aggregator.refusals import Reason
from meterstream_services.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "docs/examples").glob("*.yaml"))


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> Iterator[str]:
    """Every ``meterstream …`` line that stands by itself, continued lines joined."""
    plain = re.sub(r"^# ?", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    for line in plain.splitlines():
        if line.startswith("  ") and line.strip().startswith("meterstream "):
            yield line.strip()


GUIDES = [ROOT / f"docs/{name}.md" for name in ("gateway", "gateway-limits", "keys", "on-call")]
COMMANDS = sorted(
    {
        command
        for path in (ROOT / "README.md", *GUIDES, *EXAMPLES)
        for command in commands(path.read_text("utf-8"))
    }
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Each relative link of a document names a file or folder of the tree."""
    targets = re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8"))

    missing = [target for target in targets if not (path.parent / target).exists()]

    assert not missing


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_catalogues_are_accepted(path: Path) -> None:
    """Each example catalogue has meters."""
    assert load_catalogue(path).meters


def test_the_catalogue_of_the_readme_is_accepted() -> None:
    """The catalogue that the README shows is one."""
    [shown] = blocks((ROOT / "README.md").read_text("utf-8"), "yaml")

    names = [meter.name for meter in parse_catalogue(shown, source="README.md").meters]

    assert names == ["api.requests", "llm.tokens", "agent.seconds"]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_accepted(line: str) -> None:
    """Each command line that a document shows has a command and options that exist."""
    program = typer.main.get_command(app)
    words = shlex.split(line, comments=True)[1:]

    assert isinstance(program, TyperGroup)
    with program.make_context("meterstream", words) as context:
        name, command, rest = program.resolve_command(context, words)
        assert command is not None
        with command.make_context(name, rest, parent=context) as inner:
            assert inner.command is command


def test_every_reason_is_documented() -> None:
    """The table of dead letters has a line for each reason, and no other."""
    text = (ROOT / "docs/dead-letters.md").read_text("utf-8")

    assert re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE) == [r.value for r in Reason]
