"""`meterstream topics`: make the topics on a broker, and check that figures can rest on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from meterstream_schemas.events import EVENTS_TOPIC
from meterstream_services.cli import output
from meterstream_services.cli.addresses import (
    BootstrapOption,
    DataOption,
    find_bootstrap,
    store_address,
)
from meterstream_services.cli.output import Format, FormatOption
from meterstream_services.cli.run import TopicOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterstream_infra.topic_settings import Judged
    from meterstream_services.moving import Hindrance

app = typer.Typer(help="The topics on the broker.", no_args_is_help=True)

_IDENTITY: Final = ("topic", "topic_id", "partitions")
_SETTING: Final = ("setting", "found", "wanted", "result", "why")

PartitionsOption = Annotated[
    int, typer.Option(min=1, max=256, help="Partitions of the events topic.")
]
ReplicasOption = Annotated[
    int | None,
    typer.Option(
        "--replication-factor",
        min=1,
        help="Copies of each partition; 3 by default, or as many as there are brokers.",
    ),
]
InSyncOption = Annotated[
    int | None,
    typer.Option(
        "--min-insync-replicas",
        min=1,
        help="Disks that an acknowledged event is on; by default one less than there are copies.",
    ),
]
RetentionOption = Annotated[
    int,
    typer.Option(min=1, help="How long events are kept: the longest time a worker may be away."),
]


@app.command()
def create(
    *,
    partitions: PartitionsOption = 8,
    replication_factor: ReplicasOption = None,
    min_insync_replicas: InSyncOption = None,
    retention_days: RetentionOption = 14,
    topic: TopicOption = EVENTS_TOPIC,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    bootstrap: BootstrapOption = None,
) -> None:
    """Make the topics that are missing; those that exist are checked and left as they are."""
    from meterstream_infra.topics import TopicPlan, ensure_topics  # noqa: PLC0415 - loaded by its command

    address = find_bootstrap(bootstrap=bootstrap, data=data).address
    plan = TopicPlan(partitions, replication_factor, min_insync_replicas, retention_days)
    _print(ensure_topics(address, events_topic=topic, plan=plan), (), output_format)


@app.command()
def check(
    *,
    topic: TopicOption = EVENTS_TOPIC,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    bootstrap: BootstrapOption = None,
) -> None:
    """Check that the topic is there and set up so that figures can be proved, and say why.

    Exit status 1: a setting is unfit; a worker would refuse the topic.
    """
    from meterstream_infra.topic_settings import Verdict  # noqa: PLC0415 - loaded by its command
    from meterstream_infra.topics import examine_topic  # noqa: PLC0415 - loaded by its command

    address = find_bootstrap(bootstrap=bootstrap, data=data).address
    identity, settings = examine_topic(address, topic)
    _print(identity, settings, output_format)
    if any(found.verdict is Verdict.UNFIT for found in settings):
        raise typer.Exit(1)


@app.command()
def move(
    *,
    to: Annotated[str, typer.Option("--to", help="Name of the new topic.")],
    partitions: PartitionsOption,
    replication_factor: ReplicasOption = None,
    min_insync_replicas: InSyncOption = None,
    retention_days: RetentionOption = 14,
    topic: TopicOption = EVENTS_TOPIC,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    bootstrap: BootstrapOption = None,
) -> None:
    """Begin the next generation of the events topic, such as one with more partitions.

    Makes the topic; moves nothing by itself. What comes next is printed; see docs/workers.md.
    """
    from meterstream_infra.topics import TopicPlan, check_topic, ensure_topics  # noqa: PLC0415 - loaded by its command
    from meterstream_services.moving import next_steps, refuse_same  # noqa: PLC0415 - loaded by its command

    address = find_bootstrap(bootstrap=bootstrap, data=data).address
    refuse_same(topic, to)
    old = check_topic(address, topic)
    plan = TopicPlan(partitions, replication_factor, min_insync_replicas, retention_days)
    new = ensure_topics(address, events_topic=to, plan=plan)
    _print(new, (), output_format)
    if output_format is Format.TABLE:
        for number, step in enumerate(next_steps(old, new), 1):
            print(f"{number}. {step}")


@app.command()
def drained(
    *,
    store: Annotated[
        str,
        typer.Option(
            "--store",
            envvar="METERSTREAM_STORE",
            metavar="PATH|URL",
            help="The old topic's store: a file, or postgresql://USER@HOST/DATABASE?schema=NAME.",
        ),
    ],
    topic: TopicOption = EVENTS_TOPIC,
    output_format: FormatOption = Format.TABLE,
    data: DataOption = None,
    bootstrap: BootstrapOption = None,
) -> None:
    """Prove that a topic's store has all that was ever sent to it, and that nobody sends any more.

    Exit status 1: not yet; what is in the way is printed, line by line.
    """
    from meterstream_services.moving import hindrances  # noqa: PLC0415 - loaded by its command

    address = find_bootstrap(bootstrap=bootstrap, data=data).address
    found = hindrances(address, topic, store_address(store))
    _print_hindrances(topic, found, output_format)
    if found:
        raise typer.Exit(1)


def _print(
    identity: tuple[str, str, int], settings: Sequence[Judged], output_format: Format
) -> None:
    rows = [[*found[:3], found.verdict.value, found.why] for found in settings]
    if output_format is Format.JSON:
        document: dict[str, object] = dict(zip(_IDENTITY, identity, strict=True))
        if rows:
            document["settings"] = [dict(zip(_SETTING, row, strict=True)) for row in rows]
        output.print_json(document)
    elif output_format is Format.CSV:
        if rows:
            output.print_csv(_SETTING, rows)
        else:
            output.print_csv(_IDENTITY, [identity])
    else:
        output.print_table(_IDENTITY, [identity], numbers=["partitions"])
        if rows:
            output.print_table(_SETTING, rows)


def _print_hindrances(topic: str, found: Sequence[Hindrance], output_format: Format) -> None:
    columns = ("what", "where", "remedy")
    if output_format is Format.JSON:
        told = [dict(zip(columns, row, strict=True)) for row in found]
        output.print_json({"topic": topic, "drained": not found, "hindrances": told})
    elif output_format is Format.CSV:
        output.print_csv(columns, found)
    elif found:
        output.print_table(columns, found)
    else:
        print(
            f"topic {topic} is drained: its store has every record, every producer has closed, "
            "and no number is missing"
        )
