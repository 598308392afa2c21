"""What is kept of a campaign against the gateway, so that a red one can be looked into.

Beside the logs (``serve.out``, ``worker.out``, ``broker/broker.log``), the store and the spools,
which lie in the same place::

    journals/CLIENT.jsonl      every request as it was answered, written as it happens
    findings/faults.txt        when which fault began
    findings/findings.txt      what was wrong, what happened, and a line for each client
    findings/CLIENT.jsonl      every event: what its client was told, and its records in the topic
"""

from __future__ import annotations

import json
import time
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from tests.campaign.door_judge import copies, tenant_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.campaign.door_clients import Client
    from tests.integration.reading_topic import Placed


class Evidence:
    """Writes it down. ``say`` is told every line too."""

    def __init__(self, place: Path, say: Callable[[str], None]) -> None:
        self.place: Final = place / "findings"
        self.place.mkdir()
        self._say: Final = say

    def fault(self, name: str) -> None:
        """A fault begins."""
        self._say(name)
        self._add("faults.txt", f"{time.strftime('%H:%M:%S')} {name}")

    def told(self, lines: list[str]) -> None:
        """What is to be said at the end."""
        for line in lines:
            self._say(line)
            self._add("findings.txt", line)

    def broke_off(self, problem: BaseException) -> None:
        """The campaign did not come to its end."""
        told = "".join(traceback.format_exception(problem))
        self.told([f"BROKE OFF: {type(problem).__name__}: {problem}; see {self.place}"])
        self._add("findings.txt", told)

    def clients(self, clients: list[Client], placed: list[Placed]) -> None:
        """Every event of every client, beside its records in the topic (none without one)."""
        for client in clients:
            there = copies(placed, tenant_of(client))
            rows = [asdict(sent) | {"there": there.get(sent.name, [])} for sent in client.sent]
            lines = "".join(f"{json.dumps(row)}\n" for row in rows)
            (self.place / f"{client.tenant}.jsonl").write_text(lines, "utf-8")

    def _add(self, name: str, line: str) -> None:
        with (self.place / name).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
