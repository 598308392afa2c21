"""`meterstream topics`: make the topics on a broker, and check that figures can rest on them."""

from __future__ import annotations

from typing import Annotated

import typer

from meterstream_schemas.events import EVENTS_TOPIC
from meterstream_services.cli import output
from meterstream_services.cli.addresses import BootstrapOption, DataOption, find_bootstrap
from meterstream_services.cli.output import Format, FormatOption
from meterstream_services.cli.run import TopicOption

app = typer.Typer(help="The topics on the broker.", no_args_is_help=True)


@app.command()
def create(
    *,
    partitions: Annotated[
        int, typer.Option(min=1, max=256, help="Partitions of the events topic.")
    ] = 8,
    topic: TopicOption = EVENTS_TOPIC,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    bootstrap: BootstrapOption = None,
) -> None:
    """Make the topics that are missing; those that exist are checked and left as they are."""
    from meterstream_infra.topics import ensure_topics  # noqa: PLC0415 - loaded by its command

    address = find_bootstrap(bootstrap=bootstrap, data=data).address
    _print(ensure_topics(address, partitions=partitions, events_topic=topic), output_format)


@app.command()
def check(
    *,
    topic: TopicOption = EVENTS_TOPIC,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    bootstrap: BootstrapOption = None,
) -> None:
    """Check that the topic is there and set up so that figures can be proved."""
    from meterstream_infra.topics import check_topic  # noqa: PLC0415 - loaded by its command

    address = find_bootstrap(bootstrap=bootstrap, data=data).address
    _print(check_topic(address, topic), output_format)


def _print(identity: tuple[str, str, int], output_format: Format) -> None:
    columns = ("topic", "topic_id", "partitions")
    if output_format is Format.JSON:
        output.print_json(dict(zip(columns, identity, strict=True)))
    elif output_format is Format.CSV:
        output.print_csv(columns, [identity])
    else:
        output.print_table(columns, [identity], numbers=["partitions"])
