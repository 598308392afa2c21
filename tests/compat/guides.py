"""What the guides "Coming from …" show."""

from __future__ import annotations

import re
from pathlib import Path

GUIDES = Path(__file__).parents[2] / "docs" / "coming-from"


def python_of(name: str) -> list[str]:
    """The Python of a guide, block by block."""
    text = (GUIDES / f"{name}.md").read_text("utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def commands_of(name: str) -> list[str]:
    """The commands of a guide, each as a line that stands by itself."""
    text = (GUIDES / f"{name}.md").read_text("utf-8")
    return [line.strip() for line in text.splitlines() if line.startswith("    meterstream ")]
