"""The Python of the guide "Coming from AgentMeter" runs, and does what its comments say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from tests.compat.conftest import Memory

GUIDE = Path(__file__).parents[2] / "docs/coming-from/agentmeter.md"


def test_python_of_the_guide_runs(memory: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    """The example charges a call and a payment, and its user has used both."""
    block = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)[0]

    exec(compile(block, str(GUIDE), "exec"), {})

    assert capsys.readouterr().out.split() == ["4.99", "5.29"]
    assert [event.subject for event in memory.arrived()] == ["user_789"] * 2
