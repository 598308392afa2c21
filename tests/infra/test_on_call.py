"""The guide for who is on call: a section for each alert, and commands that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.infra.commands import accept, is_read

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = (ROOT / "docs/on-call.md").read_text("utf-8")
SECTIONS: Final = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", GUIDE, re.MULTILINE | re.DOTALL))
COMMANDS: Final = sorted(
    {line.strip() for line in GUIDE.splitlines() if line.startswith("    meterstream ")}
)


def alerts() -> dict[str, str]:
    """Every alert and its severity."""
    groups = yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text("utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return {rule["alert"]: rule["labels"]["severity"] for rule in rules}


def test_every_alert_has_a_section_and_no_other() -> None:
    """In the order of the file, so that a rule that goes takes its section along."""
    assert list(SECTIONS) == list(alerts())


@pytest.mark.parametrize("alert", alerts())
def test_a_section_says_what_to_do(alert: str) -> None:
    """What it means, how bad it is, where to look, what to do, and what not."""
    section = SECTIONS[alert]

    assert section.strip().startswith(f"**{alerts()[alert]}** · ")
    for part in ("*How bad:* ", "*Look at:* ", "*Do:* ", "*Do not:* "):
        assert section.count(part) == 1, part


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_guide_is_accepted(line: str) -> None:
    """Nobody finds out at night that an option has another name."""
    accept(shlex.split(line)[1:])


def test_variables_of_the_guide_are_read() -> None:
    """A variable that nothing reads would be set in vain."""
    names = set(re.findall(r"METERSTREAM_[A-Z_]+", GUIDE))

    assert names
    assert {name for name in names if not is_read(name)} == set()


def test_lines_worth_a_search_are_logged() -> None:
    """The words that the guide tells to look for stand in the sources."""
    told = GUIDE.partition("Lines worth a search:")[2].replace("\n", " ")
    words = re.findall(r"`([^`]+)`", told)
    folder = ROOT / "consumers/meterstream_consumers"
    sources = "\n".join(path.read_text("utf-8") for path in folder.glob("*.py"))

    assert len(words) > 5
    for each in words:
        assert f'"{each}' in sources, each
