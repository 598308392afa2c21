"""`meterstream thresholds` and `meterstream notices`: what is watched, and telling of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from meterstream_services.cli import output
from meterstream_services.cli.addresses import (
    BootstrapOption,
    DataOption,
    UrlOption,
    find_bootstrap,
    find_url,
    host_and_port,
)
from meterstream_services.cli.failures import WRONG_ARGUMENTS, CommandError
from meterstream_services.cli.log_options import LogFormat, LogFormatOption, as_json
from meterstream_services.cli.output import Format, FormatOption

_COLUMNS: Final = (
    "threshold", "meter", "who", "from", "to", "value", "at", "percent", "reached", "position",
)  # fmt: skip


def thresholds(
    *,
    threshold: Annotated[str | None, typer.Option(help="Of this threshold only.")] = None,
    who: Annotated[str | None, typer.Option(help="Of this tenant or account only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 1000,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    url: UrlOption = None,
) -> None:
    """How far watched figures are in the present period. JSON is the API's own answer."""
    from meterstream_services.client import Api  # noqa: PLC0415 - loaded by its command

    given = {"threshold": threshold, "who": who, "limit": str(limit)}
    parameters = [(name, value) for name, value in given.items() if value is not None]
    with Api(find_url(url=url, data=data).address) as api:
        answer = api.get_bytes("/v1/thresholds", parameters)
    if output_format is Format.JSON:
        output.print_json_bytes(answer)
        return
    figures = output.parsed(answer)["thresholds"]
    rows = [_cells(figure, value) for figure in figures for value in figure["values"]]
    if output_format is Format.CSV:
        output.print_csv(_COLUMNS, rows)
    elif rows:
        output.print_table(_COLUMNS, rows, numbers=["value", "at", "percent"])
    else:
        print("no watched figure has anything in its present period")


def _cells(figure: dict[str, Any], value: dict[str, Any]) -> list[Any]:
    offset = value["offset"]
    return [
        figure["threshold"],
        figure["meter"],
        figure["tenant"] or figure["account"],
        figure["from"],
        figure["to"],
        output.number(figure["value"]),
        output.number(value["at"]),
        output.number(value["percent"]),
        value["reached"] or ("before it was watched" if value["told"] else None),
        None if offset is None else f"{value['partition']}-{offset}",
    ]


def notices(
    *,
    webhook: Annotated[
        str | None,
        typer.Option(
            "--webhook",
            envvar="METERSTREAM_WEBHOOK_URL",
            help="Where each notice is posted, signed as Standard Webhooks says.",
        ),
    ] = None,
    group: Annotated[
        str, typer.Option("--group", help="Kafka consumer group that remembers what was sent.")
    ] = "meterstream-notices",
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="HOST:PORT of Prometheus metrics.")
    ] = None,
    bootstrap: BootstrapOption = None,
    data: DataOption = None,
    log_format: LogFormatOption = LogFormat.TEXT,
    log_json: Annotated[bool, typer.Option("--log-json", help="--log-format json.")] = False,
) -> None:
    """Send notices of thresholds to a webhook, until SIGTERM.

    METERSTREAM_WEBHOOK_SECRET holds the secret that signs them (whsec_ and base64), or
    METERSTREAM_WEBHOOK_SECRET_FILE names the file that does; several, with spaces between, while
    receivers change from one to the next.
    """
    from meterstream_consumers.webhooks import WebhookSettings, run  # noqa: PLC0415 - loaded by its command

    if webhook is None:
        raise CommandError(
            "--webhook is missing: where notices go; pass it or set METERSTREAM_WEBHOOK_URL",
            status=WRONG_ARGUMENTS,
        )
    if metrics:
        host_and_port(metrics, option="--metrics")
    settings = WebhookSettings(
        bootstrap_servers=find_bootstrap(bootstrap=bootstrap, data=data).address,
        url=webhook,
        secrets=tuple(_secret(os.environ).split()),
        group=group,
        metrics=metrics,
        log_json=as_json(log_format, asked=log_json),
    )
    raise typer.Exit(run(settings))


def has_webhook(environment: Mapping[str, str]) -> bool:
    """Whether the environment names a webhook, which then is found fit or refused.

    Raises `ConsumersError` for an address or a secret that is none: a sender that ends at once
    would take everything else that `up` runs with it.
    """
    url = environment.get("METERSTREAM_WEBHOOK_URL")
    if not url:
        return False
    from meterstream_consumers.webhooks import check_url, secret_keys  # noqa: PLC0415 - loaded by its command

    check_url(url)
    secret_keys(_secret(environment).split())
    return True


def _secret(environment: Mapping[str, str]) -> str:
    """The secret itself, or what is in the file that is named. Never in a command line."""
    if (file := environment.get("METERSTREAM_WEBHOOK_SECRET_FILE")) is None:
        return environment.get("METERSTREAM_WEBHOOK_SECRET", "")
    try:
        return Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise CommandError(
            f"METERSTREAM_WEBHOOK_SECRET_FILE: {file} cannot be read ({problem}); name a file that "
            "holds whsec_ and base64",
            status=WRONG_ARGUMENTS,
        ) from problem
