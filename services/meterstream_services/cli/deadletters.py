"""`meterstream deadletters`: what was not counted, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from meterstream_services.cli import output
from meterstream_services.cli.addresses import DataOption, UrlOption, find_url
from meterstream_services.cli.output import Format, FormatOption

app = typer.Typer(help="Records that were not counted, each with its reason.", no_args_is_help=True)

_COLUMNS = (
    "partition", "offset", "reason", "detail", "tenant", "type", "producer", "lane", "sequence",
    "append_time",
)  # fmt: skip


@app.callback()
def group() -> None:
    """Records that were not counted, each with its reason."""


@app.command("list")
def list_command(
    *,
    producer: Annotated[str | None, typer.Option(help="Of one producer's id only.")] = None,
    reason: Annotated[str | None, typer.Option(help="Of one reason only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """List dead letters, the newest first."""
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    parameters = [("limit", str(limit))]
    parameters += [("producer", producer)] if producer else []
    parameters += [("reason", reason)] if reason else []
    with Api(find_url(url=url, data=data).address) as api:
        answer = api.get_bytes("/v1/deadletters", parameters)
    if output_format is Format.JSON:
        output.print_json_bytes(answer)
        return
    letters = output.parsed(answer)["deadletters"]
    rows = [[letter.get(name) for name in _COLUMNS] for letter in letters]
    if output_format is Format.CSV:
        output.print_csv(_COLUMNS, rows)
    elif rows:
        output.print_table(_COLUMNS, rows, numbers=["partition", "offset", "lane", "sequence"])
    else:
        print("no dead letters")
