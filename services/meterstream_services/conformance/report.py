"""A run over a file of cases: passed, failed and skipped as three numbers, with the reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from meterstream_services.conformance.cases import Case
from meterstream_services.conformance.errors import Skipped
from meterstream_services.conformance.judging import Difference


@dataclass(slots=True)
class Report:
    """The outcome of every case, in the file's order."""

    passed: list[str] = field(default_factory=list[str])
    failed: list[tuple[str, list[Difference]]] = field(
        default_factory=list[tuple[str, list[Difference]]]
    )
    skipped: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "passed": len(self.passed),
            "failed": [
                {"name": name, "expected": difference.expected, "got": difference.got}
                for name, differences in self.failed
                for difference in differences
            ],
            "skipped": [{"name": name, "reason": reason} for name, reason in self.skipped],
        }


def run(
    cases: Iterable[Case],
    judge: Callable[[Case], list[Difference]],
    progress: Callable[[str], None] = lambda _name: None,
) -> Report:
    """Judge every case; ``progress`` hears the name of each before it is judged."""
    report = Report()
    for case in cases:
        progress(case.name)
        try:
            found = judge(case)
        except Skipped as reason:
            report.skipped.append((case.name, str(reason)))
            continue
        if found:
            report.failed.append((case.name, found))
        else:
            report.passed.append(case.name)
    return report
