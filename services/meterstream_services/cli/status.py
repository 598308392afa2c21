"""`meterstream status`: how far the log is folded, and by whom."""

from __future__ import annotations

from typing import Any

from meterstream_services.cli import output
from meterstream_services.cli.addresses import DataOption, UrlOption, find_url
from meterstream_services.cli.output import Format, FormatOption
from meterstream_services.cli.unread import unread


def status(
    *,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """Positions, lag and owners of all partitions. JSON is the API's own answer."""
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    with Api(find_url(url=url, data=data).address) as api:
        answer = api.get_bytes("/v1/status")
        refused = output_format is Format.TABLE and output.parsed(answer).get("refused")
        hint = unread(api) if refused else None
    if output_format is Format.JSON:
        output.print_json_bytes(answer)
        return
    document: dict[str, Any] = output.parsed(answer)
    partitions: list[dict[str, Any]] = document.pop("partitions", [])
    columns = list(partitions[0]) if partitions else ["partition"]
    rows = [[partition.get(name) for name in columns] for partition in partitions]
    if output_format is Format.CSV:
        output.print_csv(columns, rows)
        return
    facts = [[name, value] for name, value in _flat("", document)]
    output.print_table(["what", "value"], facts)
    output.print_table(columns, rows)
    if hint:
        print(hint)


def _flat(prefix: str, document: dict[str, Any]) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = []
    for name, value in document.items():
        label = f"{prefix}{name}"
        if isinstance(value, dict):
            facts += _flat(f"{label}.", value)
        elif isinstance(value, list):
            facts.append((label, ", ".join(output.shown(item) for item in value)))
        else:
            facts.append((label, value))
    return facts
