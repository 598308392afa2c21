"""`meterstream conformance`: published cases of other systems, by equality of exact decimals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meterstream_services.cli import output
from meterstream_services.cli.failures import CommandError
from meterstream_services.cli.output import Format, FormatOption


def conformance(
    file: Annotated[Path, typer.Argument(help="JSON file of cases.", show_default=False)],
    *,
    output_format: FormatOption = Format.TABLE,
) -> None:
    """Run published cases through the real catalogue, fold, store and questions, in this process.

    Prints how many passed, failed and were skipped, and why. Exit status 1 when a case failed.
    """
    from meterstream_services.conformance.cases import read_cases  # noqa: PLC0415 - loaded by its command
    from meterstream_services.conformance.errors import CasesUnreadable  # noqa: PLC0415 - likewise
    from meterstream_services.conformance.report import run  # noqa: PLC0415 - likewise
    from meterstream_services.conformance.running import judge  # noqa: PLC0415 - likewise

    try:
        cases = read_cases(file)
    except CasesUnreadable as problem:
        raise CommandError(str(problem)) from None
    report = run(cases, judge)
    if output_format is Format.JSON:
        output.print_json(report.document())
    else:
        rows = [
            *(
                ("failed", name, f"expected {d.expected}, got {d.got}")
                for name, ds in report.failed
                for d in ds
            ),
            *(("skipped", name, reason) for name, reason in report.skipped),
        ]
        if output_format is Format.CSV:
            passed = (("passed", name, "") for name in report.passed)
            output.print_csv(("outcome", "case", "why"), [*passed, *rows])
        else:
            if rows:
                output.print_table(("outcome", "case", "why"), rows)
            print(
                f"{len(report.passed)} passed, {len(report.failed)} failed, "
                f"{len(report.skipped)} skipped"
            )
    if report.failed:
        raise typer.Exit(1)
